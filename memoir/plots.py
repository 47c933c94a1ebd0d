"""One style for every figure, and one way to save it: the same bytes on every run."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

FIGURES = Path(__file__).resolve().parents[1] / "figures"
COLUMN, WIDE = 5.5, 7.5  # inches: a NeurIPS column, and a notebook's width

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


def use_style() -> None:
    """Set matplotlib's defaults for all figures of the companion."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.85)
    plt.rcParams |= {
        "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110, "savefig.dpi": 200,
        "savefig.bbox": "tight", "figure.constrained_layout.use": True, "legend.frameon": False,
        "axes.titlelocation": "left", "axes.titleweight": "bold", "svg.hashsalt": "memoir", "svg.fonttype": "path",
    }  # fmt: skip


def save(figure: Figure, name: str, folder: Path | None = None) -> list[Path]:
    """Write <name>.svg and <name>.png into `folder`, figures/ by default. No date or random id: the bytes repeat."""
    folder = folder or FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], metadata={"Software": None})
    return paths


def routing_bars(table: pd.DataFrame, threshold: float) -> Figure:
    """Overlap of each question with its best stored mask, against τ. table: columns question, kind, overlap."""
    figure, axes = plt.subplots(figsize=(WIDE, 0.42 * len(table) + 1.1))
    places = range(len(table))
    axes.barh(places, table.overlap, color=[COLOURS[kind] for kind in table.kind], height=0.7)
    for place, row in zip(places, table.itertuples(), strict=True):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.text(row.overlap + 0.01, place, f"{row.overlap:.2f}  {row.kind}", va="center", fontsize=8, bbox=box)
    axes.axvline(threshold, color="black", linewidth=1.2)
    axes.text(threshold, len(table) - 0.4, f"  τ = {threshold:.2f}: answered from memory to the right", fontsize=8)
    axes.set(
        yticks=list(places), yticklabels=table.question, xlim=(0, 1.18), xlabel="overlap R with the best stored mask"
    )
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.invert_yaxis()
    return figure


def metric_bars(summary: pd.DataFrame, title: str) -> Figure:
    """Means with their intervals, one panel per protocol. summary: as `metrics.summary` gives it."""
    protocols = list(summary.protocol.unique())
    figure, panels = plt.subplots(1, len(protocols), figsize=(WIDE, 2.6), sharey=True, squeeze=False)
    for axes, protocol in zip(panels[0], protocols, strict=True):
        rows = summary[summary.protocol == protocol]
        error = [rows["mean"] - rows.low.clip(0), rows.high.clip(upper=1) - rows["mean"]]
        axes.bar(rows.metric, rows["mean"], yerr=error, color=[COLOURS[m] for m in rows.metric], capsize=3, width=0.7)
        for place, mean in enumerate(rows["mean"]):
            axes.text(place, 0.03, f"{mean:.2f}", ha="center", color="white", fontweight="bold")
        axes.set_title(protocol, fontweight="normal")
        axes.set_xticks(range(len(rows)), [m.replace(" ", "\n") for m in rows.metric])
    panels[0, 0].set(ylim=(0, 1.05), ylabel="mean, 95 % interval")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def kept_features(feature: Tensor, k: int, title: str) -> Figure:
    """|f_j| of one centred feature (D,), sorted, with the k that TopHash keeps; and the share of the norm they hold."""
    sizes = feature.abs().sort(descending=True).values.numpy()
    figure, axes = plt.subplots(figsize=(COLUMN, 2.6))
    places = range(1, len(sizes) + 1)
    axes.fill_between(places[:k], sizes[:k], color=COLOURS["irrelevant"], alpha=0.35)
    axes.plot(places, sizes, color=COLOURS["irrelevant"])
    share = (sizes[:k] ** 2).sum() / (sizes**2).sum()
    axes.text(k * 0.55, sizes[k // 8], f"the k = {k} largest hold\n{share:.0%} of the squared norm")
    axes.set(xlabel=f"features, largest first (D = {len(sizes)})", ylabel="|f_j|", yscale="log", title=title)
    axes.set_ylim(sizes[int(0.98 * len(sizes))], None)
    return figure


def overlap_histograms(table: pd.DataFrame, law: float, title: str) -> Figure:
    """Overlap shares of pairs of prompts. table: columns overlap, pairs, panel (one panel each); law: k/D by chance."""
    panels = list(table.panel.unique())
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDE, 2.7), sharey=True, sharex=True, squeeze=False)
    for place, (ax, panel) in enumerate(zip(axes[0], panels, strict=True)):
        for kind, rows in table[table.panel == panel].groupby("pairs", sort=False):
            sns.histplot(
                rows, x="overlap", stat="density", binwidth=0.025, color=COLOURS[kind], ax=ax, alpha=0.5, label=kind
            )
        ax.axvline(law, color=COLOURS["theory"], linestyle="--", linewidth=1)
        ax.text(law, 0.98, "k/D ", ha="right", va="top", transform=ax.get_xaxis_transform(), fontsize=8)
        ax.set(xlabel="overlap of two masks", title=panel, xlim=(0, 1))
        ax.title.set_fontweight("normal")
        if place == 0:
            ax.legend(loc="upper right")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def mask_pictures(masks: dict[str, Tensor], reference: Tensor, width: int) -> Figure:
    """Masks (D,) bool as pictures of `width` columns: shared with the reference mask, only here, or in neither."""
    figure, panels = plt.subplots(1, len(masks), figsize=(WIDE, 2.5))
    palette = ListedColormap(["white", "#d0d0d0", COLOURS["irrelevant"]])
    for axes, (name, mask) in zip(panels, masks.items(), strict=True):
        axes.imshow((mask.int() + (mask & reference).int()).reshape(-1, width), cmap=palette, vmin=0, vmax=2)
        share = (mask & reference).sum().item() / reference.sum().item()
        axes.set_title(f"{name}\nshares {share:.0%}", fontsize=8, fontweight="normal", loc="center")
        axes.set(xticks=[], yticks=[])
        axes.spines[["top", "right"]].set_visible(True)
    return figure
