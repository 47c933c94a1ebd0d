"""The figures of notebooks 01 and 02, each from tidy frames; those beside the laws stand in `law_plots.py`.

Knows frames as `theory/overlap.py` and `real_masks.py` give them. Every function returns its figure.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from torch import Tensor

from memoir.plots import COLOURS, COLUMN, SMALL, WIDE, end_labels, ink, mask_pictures
from memoir.theory import overlap

KINDS = {
    "rephrasing": "a prompt and\nits rephrasing", "same template": "same template,\nother subject",
    "irrelevant": "irrelevant prompts",
}  # fmt: skip
INK = "0.25"


def real_shares(histograms: pd.DataFrame, summary: pd.DataFrame, layer: int, k: int, D: int, tau: float) -> Figure:
    """Left, the paper's Figure 4: densities of the share at one layer. Right: its mean at every layer, both ways."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.6), width_ratios=(1.15, 1))
    here = histograms[(histograms.layer == layer) & histograms.centred]
    edges = np.arange(0.2, 1.0001, 0.02)
    for place, (kind, label) in enumerate(KINDS.items()):
        rows = here[here.kind == kind]
        if len(rows):
            left.hist(rows["count"] / k, edges, weights=rows.pairs, density=True, color=COLOURS[kind], alpha=0.5)
            left.text(0.98, 0.72 - 0.15 * place, label, color=ink(COLOURS[kind]), fontsize=SMALL, ha="right",
                      transform=left.transAxes)  # fmt: skip
        for centred, style in ((True, "-o"), (False, ":")):
            line = summary[(summary.kind == kind) & (summary.centred == centred)]
            right.plot(line.layer, line["mean"], style, color=COLOURS[kind], ms=3)
    left.axvline(k / D, color=COLOURS["theory"], ls="--", lw=1)
    left.text(k / D, 0.98, "k/D ", color=ink(COLOURS["theory"]), fontsize=SMALL, ha="right",
              transform=left.get_xaxis_transform())  # fmt: skip
    left.axvline(tau, color=INK, lw=1)
    left.text(tau, 0.98, f" τ = {tau:g}", color=INK, fontsize=SMALL, transform=left.get_xaxis_transform())
    left.set(xlabel=f"share of columns in common, layer {layer}", ylabel="density of pairs (per unit of share)",
             title="Rephrasings and neighbours mix")  # fmt: skip
    right.axhline(k / D, color=COLOURS["theory"], ls="--", lw=1)
    right.text(0.02, k / D - 0.04, "independent masks, k/D", color=ink(COLOURS["theory"]), fontsize=SMALL,
               transform=right.get_yaxis_transform())  # fmt: skip
    right.text(0.02, 0.98, "line: centred by μ\ndots: not centred", fontsize=SMALL, va="top", transform=right.transAxes)
    right.set(ylim=(0.2, 1), xlabel="decoder layer (0 = first)", ylabel="mean share of a pair",
              title="Centring lowers every mean")  # fmt: skip
    return figure


def growth(best: pd.DataFrame, k: int, D: int, tau: float) -> Figure:
    """The best share of a prompt that was never edited, as more edits are stored: mean, and the top 1 %."""
    figure, axes = plt.subplots(figsize=(WIDE * 0.85, 2.5))
    axes.set_ylim(0.25, 1.02)
    ends = []
    for kind, label in {"same template": "another subject\nof a template", "irrelevant": "irrelevant prompts"}.items():
        groups = best[best.kind == kind].groupby("N").share
        if not len(groups):
            continue
        mean, top = groups.mean(), groups.quantile(0.99)
        axes.plot(mean.index, mean, "-o", color=COLOURS[kind])
        axes.plot(top.index, top, ":", color=COLOURS[kind])
        ends += [(mean.iloc[-1], label, COLOURS[kind]), (top.iloc[-1], "their top 1 %", COLOURS[kind])]
    sizes = sorted(best.N.unique())
    law = [overlap.best_share(n, k, D)[0] for n in sizes]
    axes.plot(sizes, law, "--", color=COLOURS["theory"])
    end_labels(axes, [*ends, (law[-1], "independent masks,\nexact law", COLOURS["theory"]), (tau, f"τ = {tau:g}", INK)])
    axes.axhline(tau, color=INK, lw=1)
    axes.set(xscale="log", xlabel="stored edits N", ylabel="share with the best stored mask",
             title="Every stored edit makes a false route likelier")  # fmt: skip
    return figure


def roc_curves(curves: dict[str, tuple[NDArray, float, NDArray]], taus: dict[str, float]) -> Figure:
    """Rephrasings that reach τ against wrong prompts that do; dashed: through their own edit. taus: named thresholds.

    curves: for each kind of wrong prompt what `overlap.roc` gave, and its points where only own edits count.
    """
    figure, axes = plt.subplots(figsize=(WIDE * 0.85, 2.9))
    for place, (kind, (points, area, own)) in enumerate(curves.items()):
        axes.step(points[:, 2], points[:, 1], where="post", color=COLOURS[kind])
        axes.step(own[:, 2], own[:, 1], where="post", color=COLOURS[kind], ls="--", lw=1.2)
        axes.text(1.04, 0.97 - 0.2 * place, f"against {KINDS[kind]}:\narea {area:.2f}", color=ink(COLOURS[kind]),
                  fontsize=SMALL, va="top", transform=axes.transAxes)  # fmt: skip
        for marker, tau in zip("os", taus.values(), strict=False):
            at = points[points[:, 0] >= tau][-1]
            axes.plot(at[2], at[1], marker, color=COLOURS[kind], ms=6)
    notes = [f"{mark} {name} τ = {tau:.2f}" for mark, (name, tau) in zip("●■", taus.items(), strict=False)]
    notes = ["solid: reaches τ", "dashed: with its own edit", "", *notes]
    axes.text(1.04, 0.1, "\n".join(notes), fontsize=SMALL, va="bottom", transform=axes.transAxes)
    axes.plot([0, 1], [0, 1], ":", color=COLOURS["theory"], lw=1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="wrong prompts that reach τ", ylabel="rephrasings that reach τ",
             title="No τ parts rephrasings from neighbours", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))  # fmt: skip
    return figure


def geometry(frame: pd.DataFrame) -> Figure:
    """What reaches W_m under each choice of columns: length, mean cosine, independent directions."""
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 1.9), sharey=True)
    colours = [COLOURS["rephrasing" if "π" in name else "theory"] for name in frame.masks]
    names = {"norm": "length of M ⊙ a / of a", "beta": "mean cosine β of two edits", "dims": "effective directions D'"}
    for axes, (column, label) in zip(panels, names.items(), strict=True):
        bars = axes.barh(frame.masks, frame[column], color=colours)
        axes.bar_label(bars, fmt="%.0f" if column == "dims" else "%.2f", fontsize=SMALL, padding=2)
        axes.set(xlabel=label, xlim=(0, frame[column].max() * 1.25))
    panels[0].invert_yaxis()
    title = "The permutation shortens the input and parts edits; few directions remain"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def kept_features(feature: Tensor, k: int, title: str = "The largest features of a prompt are kept") -> Figure:
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
    table: pd.DataFrame, law: float, title: str = "Centring takes away some of what all prompts share"
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


def pictures(masks: dict[str, Tensor]) -> Figure:
    """Masks (D,) bool beside the first one, and which of the others has most in common with it."""
    first, *others = masks
    figure = mask_pictures(masks, masks[first], width=48)
    nearest = max(others, key=lambda name: int((masks[name] & masks[first]).sum()))
    figure.set_figheight(1.6)
    figure.suptitle(f"Most of the mask is shared by the {nearest}", x=0.01, ha="left")
    return figure
