"""One style for every figure, and one way to save it: the same bytes on every run.

Widths and font sizes are those of a NeurIPS paper (tueplots), so that a figure is read at the size it is printed.
"""

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor
from tueplots import bundles

FIGURES = Path(__file__).resolve().parents[1] / "figures"
NEURIPS = bundles.neurips2024(usetex=False, family="sans-serif")
WIDE = NEURIPS["figure.figsize"][0]  # inches: the width of the text, for figures of several panels
COLUMN = WIDE * 2 / 3  # for one panel
SMALL = NEURIPS["legend.fontsize"]  # points: ticks, legends and notes; nothing is smaller

# the colour-blind safe palette of seaborn, by what is shown: the same colour everywhere
COLOURS = dict(zip(
    ["rephrasing", "irrelevant", "same template", "theory", "other"],
    [sns.color_palette("colorblind")[i] for i in (2, 0, 1, 7, 4)],
    strict=True,
))  # fmt: skip
COLOURS |= {
    "edited prompt": COLOURS["same template"], "near neighbour": COLOURS["other"],
    "reliability": COLOURS["same template"], "generalization": COLOURS["rephrasing"], "locality": COLOURS["irrelevant"],
    "neighbour locality": COLOURS["other"], "paper": COLOURS["theory"],
}  # fmt: skip

# each method's colour, in every figure. Chosen so that any two differ by at least 15 (CIE Lab) for normal sight and
# for both kinds of red-green blindness (tests/test_plots.py)
METHODS = {
    "memoir": "#000000", "rls": "#ba1f01", "ft-l": "#47496c", "ft": "#8b9f99", "lora": "#6e2400", "rome": "#bc78c3",
    "memit": "#a619b1", "alphaedit": "#2a0f7a", "defer": "#208efb", "grace": "#006543", "wise": "#0f2bd1",
    "in-context": "#e38200", "in-context-masks": "#c58f63", "ultraedit": "#108431",
}  # fmt: skip


def use_style() -> None:
    """Set matplotlib's defaults for all figures of the companion."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind")
    plt.rcParams |= NEURIPS | {
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same glyphs on every machine
        "mathtext.fontset": "dejavusans", "axes.labelsize": 8, "legend.title_fontsize": SMALL,
        "axes.titlesize": 8.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "figure.titlesize": 8.5, "figure.titleweight": "bold", "figure.dpi": 150, "savefig.dpi": 220,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "legend.frameon": False,
        "xtick.major.size": 3, "ytick.major.size": 3, "xtick.minor.size": 2, "ytick.minor.size": 2,
        "lines.linewidth": 1.3, "lines.markersize": 4, "svg.hashsalt": "memoir", "svg.fonttype": "path",
    }  # fmt: skip


def save(figure: Figure, name: str, folder: Path | None = None) -> list[Path]:
    """Write <name>.svg and <name>.png into `folder`, figures/ by default. No date or random id: the bytes repeat.

    Where the picture that is there is the same up to a thousandth of a point, it stays as it is: what another
    processor's last digit moves is seen by nobody. Both carry `described`: the report's text for who does not see the
    figure.
    """
    folder = folder or FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    title, description = described(figure)
    about = {"Title": title, "Description": description}
    figure.savefig(buffer := io.StringIO(), format="svg", metadata=about | {"Date": None})
    drawn = rounded(buffer.getvalue())
    if all(path.exists() for path in paths) and same_picture(drawn, paths[0].read_text("utf-8")):
        return paths
    paths[0].write_text(drawn, "utf-8")
    figure.savefig(paths[1], metadata=about | {"Software": None})
    return paths


def rounded(drawn: str) -> str:
    """An SVG with its coordinates to a thousandth of a point, and its clip paths numbered: matplotlib names them by a
    hash of their corners. Digits beyond these differ between processors; factors, which are no lengths, keep theirs."""
    for number, clip in enumerate(dict.fromkeys(re.findall(r'<clipPath id="(p[0-9a-f]{10})"', drawn)), 1):
        drawn = drawn.replace(clip, f"clip{number}")
    return re.sub(r"(?:scale|matrix|rotate)\([^)]*\)|-?\d+\.\d{4,}", _rounded, drawn)


def _rounded(found: re.Match) -> str:
    return found[0] if found[0].endswith(")") else f"{round(float(found[0]), 3) + 0.0:.3f}".rstrip("0").rstrip(".")


def same_picture(one: str, other: str) -> bool:
    """Whether two `rounded` SVGs differ in nothing but coordinates, by a thousandth of a point at most."""
    parts = [re.split(r"(-?\d+(?:\.\d+)?)", text) for text in (one, other)]
    if len(parts[0]) != len(parts[1]):
        return False
    words, numbers = zip(*(part[::2] for part in parts), strict=True), zip(*(part[1::2] for part in parts), strict=True)
    return all(a == b for a, b in words) and all(a == b or abs(float(a) - float(b)) < 0.0015 for a, b in numbers)


def described(figure: Figure) -> tuple[str, str]:
    """A figure's title, and in words what it shows: for each panel its title, its axes, and what is named in it."""
    panels = []
    for axes in figure.axes:
        named = [text.get_text() for text in axes.texts]
        named += [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
        parts = {"": axes.get_title(loc="left") or axes.get_title(), "across: ": axes.get_xlabel(),
                 "up: ": axes.get_ylabel(), "named in it: ": ", ".join(named)}  # fmt: skip
        panels.append("; ".join(f"{name}{text}" for name, text in parts.items() if text))
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    panels += [f"legend: {', '.join(legends)}"] if legends else []
    title = figure.get_suptitle() or "; ".join(axes.get_title(loc="left") for axes in figure.axes)
    plain = [re.sub(r"[$_{}\\]", "", " ".join(text.split())) for text in (title, ". ".join(panels))]
    return plain[0], plain[1]


def ink(colour: str | Sequence[float]) -> tuple[float, ...]:
    """The colour, darkened as far as small letters on white need it: a contrast of 4.5 (WCAG 2)."""
    shade = np.array(to_rgb(colour))
    while contrast(shade) < 4.5:
        shade *= 0.97
    return tuple(shade)


def contrast(colour: str | Sequence[float]) -> float:
    """WCAG's contrast with white, from 1 to 21."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


ONE_LINE = ("model", "dataset", "behaviour", "threshold")  # of what a line is of one
MIXED = "some of the edits write true answers"  # ZsRE's from record 1,009 on


def curve(axes: Axes, rows: pd.DataFrame, x: str, colour: str | Sequence[float], style: str = "o-", **line) -> None:
    """A mean with its interval as a band. rows: columns x, mean, low, high; shares, so the band ends at 0 and 1.

    Where the rows say what they are of (`lab.results`), ValueError unless they are of one model, data set, threshold
    and behaviour of the method; points are marked as by `mark_mixed`.
    """
    for name in ONE_LINE:
        if name in rows and rows[name].nunique() > 1:
            raise ValueError(
                f"One line of a figure is of one {name}, and not of {', '.join(map(str, rows[name].unique()))}."
            )
    rows = rows.sort_values(x)
    axes.fill_between(rows[x], rows.low.clip(0), rows.high.clip(upper=1), color=colour, alpha=0.18, lw=0)
    (drawn,) = axes.plot(rows[x], rows["mean"], style, color=colour, **line)
    mark_mixed(axes, rows, x, drawn)


def mark_mixed(axes: Axes, rows: pd.DataFrame, x: str, drawn: Line2D) -> None:
    """Make hollow what was drawn of these rows where not all edits write the same kind of answer, false or true, and
    say so in the axes' legend. rows: columns x and mean, and targets where they are told."""
    mixed = rows[rows.targets == "false and true"] if "targets" in rows else rows.head(0)
    if len(mixed):
        about = {"marker": drawn.get_marker(), "ms": drawn.get_markersize(), "color": drawn.get_color()}
        about["zorder"] = drawn.get_zorder() + 0.1
        said = MIXED in axes.get_legend_handles_labels()[1]
        axes.plot(mixed[x], mixed["mean"], ls="none", mfc="white", label="" if said else MIXED, **about)


def end_labels(axes: Axes, ends: Iterable[tuple[float, str, str | Sequence[float]]], gap: float = 0.085) -> None:
    """Name lines at the right edge, at their last values, moved apart where they would touch.

    ends: (last value, text, colour). gap: the least distance, as a part of the axes' height.
    """
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: end[0])
    places = [(value - low) / (high - low) for value, *_ in ends]
    for i in range(1, len(places)):  # upwards, and back from the top where that went over it
        places[i] = max(places[i], places[i - 1] + gap)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], 1 - gap * (len(places) - 1 - i))
    for place, (_, text, colour) in zip(places, ends, strict=True):
        axes.text(1.02, place, text, color=ink(colour), fontsize=SMALL, va="center", transform=axes.transAxes)


def spaced(counts: Sequence[int]) -> list[str]:
    """Names of growing counts on a logarithmic axis, from the last; empty where one would touch the next named."""
    named = [counts[-1]]
    for n in reversed(counts[:-1]):
        if named[-1] / n >= 7:
            named.append(n)
    return [f"{n:,}" if n in named else "" for n in counts]


def routing_bars(table: pd.DataFrame, threshold: float) -> Figure:
    """Overlap of each question with its best stored mask, against τ. table: columns question, kind, overlap."""
    figure, axes = plt.subplots(figsize=(WIDE, 0.3 * len(table) + 0.9))
    places = range(len(table))
    axes.barh(places, table.overlap, color=[COLOURS[kind] for kind in table.kind], height=0.7)
    for place, row in zip(places, table.itertuples(), strict=True):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.text(row.overlap + 0.01, place, f"{row.overlap:.2f}  {row.kind}", va="center", fontsize=SMALL, bbox=box)
    axes.axvline(threshold, color="black", linewidth=1)
    axes.text(threshold, len(table) - 0.4, f"  τ = {threshold:.2f}: answered from memory to the right", fontsize=SMALL)
    axes.set(
        yticks=list(places), yticklabels=table.question, xlim=(0, 1.25), xlabel="overlap R with the best stored mask"
    )
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.invert_yaxis()
    return figure


def mask_pictures(masks: dict[str, Tensor], reference: Tensor, width: int) -> Figure:
    """Masks (D,) bool as pictures of `width` columns: shared with the reference mask, only here, or in neither."""
    figure, panels = plt.subplots(1, len(masks), figsize=(WIDE, 1.35))
    palette = ListedColormap(["white", "#c0c0c0", COLOURS["irrelevant"]])
    for axes, (name, mask) in zip(panels, masks.items(), strict=True):
        axes.imshow((mask.int() + (mask & reference).int()).reshape(-1, width).numpy(), cmap=palette, vmin=0, vmax=2)
        share = (mask & reference).sum().item() / reference.sum().item()
        axes.set_title(f"{name}\nshares {share:.0%}", fontsize=SMALL, fontweight="normal", loc="center")
        axes.set(xticks=[], yticks=[])
        axes.spines[["top", "right"]].set_visible(True)
    return figure


def markdown(table: pd.DataFrame) -> str:
    """A table as markdown, with a line break at its end."""
    rows = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def save_table(table: pd.DataFrame, name: str, caption: str | None = None) -> list[Path]:
    """Write a table as csv, md and tex into figures/; the last two with the caption, where there is one."""
    FIGURES.mkdir(exist_ok=True)
    paths = [FIGURES / f"{name}.{kind}" for kind in ("csv", "md", "tex")]
    table = table.astype(object).where(table.notna(), "")
    lines = (f"{caption}\n\n" if caption else "") + markdown(table)
    texts = (table.to_csv(index=False), lines, table.to_latex(index=False, caption=caption))
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, "utf-8")
    return paths
