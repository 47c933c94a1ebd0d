"""One style for every figure, and one way to save it: the same bytes on every run.

Widths and font sizes are those of a NeurIPS paper (tueplots), so that a figure is read at the size it is printed.
"""

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
    "in-context": "#e38200", "in-context-masks": "#c58f63",
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

    Both carry `described`: the report's text for who does not see the figure.
    """
    folder = folder or FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    title, description = described(figure)
    about = {"Title": title, "Description": description}
    figure.savefig(paths[0], metadata=about | {"Date": None})
    # a clip path is named by a hash of its corners, whose last digits differ between processors: numbered instead
    drawn = paths[0].read_text()
    for number, name in enumerate(dict.fromkeys(re.findall(r'<clipPath id="(p[0-9a-f]{10})"', drawn)), 1):
        drawn = drawn.replace(name, f"clip{number}")
    paths[0].write_text(drawn)
    figure.savefig(paths[1], metadata=about | {"Software": None})
    return paths


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


def curve(axes: Axes, rows: pd.DataFrame, x: str, colour: str | Sequence[float], style: str = "o-", **line) -> None:
    """A mean with its interval as a band. rows: columns x, mean, low, high; shares, so the band ends at 0 and 1."""
    rows = rows.sort_values(x)
    axes.fill_between(rows[x], rows.low.clip(0), rows.high.clip(upper=1), color=colour, alpha=0.18, lw=0)
    axes.plot(rows[x], rows["mean"], style, color=colour, **line)


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


def metric_bars(summary: pd.DataFrame, title: str) -> Figure:
    """Means with their intervals, one panel per protocol. summary: as `metrics.summary` gives it."""
    protocols = list(summary.protocol.unique())
    figure, panels = plt.subplots(1, len(protocols), figsize=(WIDE, 2.0), sharey=True, squeeze=False)
    for axes, protocol in zip(panels[0], protocols, strict=True):
        rows = summary[summary.protocol == protocol]
        error = [rows["mean"] - rows.low.clip(0), rows.high.clip(upper=1) - rows["mean"]]
        axes.bar(rows.metric, rows["mean"], yerr=error, color=[COLOURS[m] for m in rows.metric], capsize=2, width=0.7,
                 error_kw={"lw": 0.9})  # fmt: skip
        for place, row in enumerate(rows.itertuples()):
            axes.text(place, min(row.high, 1) + 0.02, f"{row.mean:.2f}", ha="center", fontsize=SMALL)
        axes.set_title(protocol, fontweight="normal")
        broken = [m.replace(" ", "\n").replace("alization", "al-\nization") for m in rows.metric]
        axes.set_xticks(range(len(rows)), broken)
    panels[0, 0].set(ylim=(0, 1.15), ylabel="mean, 95 % interval", yticks=[0, 0.25, 0.5, 0.75, 1])
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def kept_features(feature: Tensor, k: int, title: str = "A few features stand out: those are kept") -> Figure:
    """|f_j| of one centred feature (D,), sorted, with the k that TopHash keeps; and the share of the norm they hold."""
    sizes = feature.abs().sort(descending=True).values.numpy()
    figure, axes = plt.subplots(figsize=(COLUMN, 2.0))
    places = range(1, len(sizes) + 1)
    axes.fill_between(places[:k], sizes[:k], color=COLOURS["irrelevant"], alpha=0.35)
    axes.plot(places, sizes, color=COLOURS["irrelevant"])
    share = (sizes[:k] ** 2).sum() / (sizes**2).sum()
    axes.text(k * 0.55, sizes[k // 8], f"the k = {k} largest hold\n{share:.0%} of the squared norm", fontsize=SMALL)
    axes.set(
        xlabel=f"features, largest first (D = {len(sizes)})", ylabel="magnitude |$f_j$|", yscale="log", title=title
    )
    axes.set_ylim(sizes[int(0.98 * len(sizes))], None)
    return figure


def overlap_histograms(
    table: pd.DataFrame, law: float, title: str = "Centring takes away what all prompts have in common"
) -> Figure:
    """Overlap shares of pairs of prompts. table: columns overlap, pairs, panel (one panel each); law: k/D by chance."""
    panels = list(table.panel.unique())
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDE, 2.1), sharey=True, sharex=True, squeeze=False)
    for place, (ax, panel) in enumerate(zip(axes[0], panels, strict=True)):
        for kind, rows in table[table.panel == panel].groupby("pairs", sort=False):
            sns.histplot(rows, x="overlap", stat="density", binwidth=0.025, color=COLOURS[kind], ax=ax, alpha=0.5)
            if place == 0:
                spot = (0.5, 0.8) if kind == "irrelevant" else (0.62, 0.45)
                ax.text(*spot, f"{kind} prompts" if kind == "irrelevant" else f"a {kind}", color=ink(COLOURS[kind]),
                        fontsize=SMALL, transform=ax.transAxes)  # fmt: skip
        ax.axvline(law, color=COLOURS["theory"], linestyle="--", linewidth=1)
        ax.text(law, 0.98, "k/D ", ha="right", va="top", transform=ax.get_xaxis_transform(), fontsize=SMALL)
        ax.set(xlabel="share of two masks in common", xlim=(0, 1), ylabel="density of pairs")
        ax.set_title(panel, fontweight="normal")
    figure.suptitle(title, x=0.01, ha="left")
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
