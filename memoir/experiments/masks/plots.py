"""The figures of notebook 02, each from tidy frames: what masks share, where a threshold stands, what edits disturb.

Knows frames as `overlap.py`, `real_masks.py` and `interference.py` give them. Every function returns its figure.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from memoir.plots import COLOURS, SMALL, WIDE, end_labels, ink
from memoir.theory import overlap

KINDS = {
    "rephrasing": "a prompt and\nits rephrasing", "same template": "same template,\nother subject",
    "irrelevant": "irrelevant prompts",
}  # fmt: skip
INK = "0.25"


def _power(value: float, _position: int) -> str:
    return {0: "1", -1: "0.1", -2: "0.01"}.get(value, f"$10^{{{value:.0f}}}$")


def collisions(simulated: NDArray, real: pd.DataFrame, k: int, D: int, N: int, tau: float, size: tuple) -> Figure:
    """The whole question: P(two masks share at least x), for random masks and for a model's own.

    simulated: pair histogram of uniform masks at (k, D); real: a histogram row per kind and count at size = (k, D).
    Labels are placed for the claim's size.
    """
    figure, axes = plt.subplots(figsize=(WIDE, 3.3))
    share, law = overlap.survival(overlap.overlap_law(k, D).pmf(np.arange(k + 1)), k)
    axes.plot(share, np.log10(law), color=COLOURS["theory"], lw=4, alpha=0.6)
    any_pair = np.minimum(np.log10(law) + math.log10(math.comb(N, 2)), 0)
    axes.plot(share, any_pair, color=COLOURS["theory"], lw=1.5, ls="--")
    small, wide = overlap.survival(overlap.overlap_law(*size).pmf(np.arange(size[0] + 1)), size[0])
    axes.plot(small, np.log10(wide), color=COLOURS["theory"], lw=1.2, ls=":")
    x, seen = overlap.survival(simulated, k)
    pick = np.unique(np.r_[np.arange(0, len(x), max(len(x) // 80, 1)), len(x) - 1])
    axes.plot(x[pick], np.log10(seen[pick]), ".", color=COLOURS["other"], ms=5)
    for kind, label in KINDS.items():
        counts = real[real.kind == kind].groupby("count").pairs.sum()
        if len(counts):
            x, seen = overlap.survival(np.bincount(counts.index, weights=counts), size[0])
            axes.plot(x, np.log10(seen), color=COLOURS[kind], lw=2)
            at = np.searchsorted(-np.log10(seen), {"irrelevant": 4.0, "rephrasing": 2.2, "same template": 2.6}[kind])
            at = min(at, len(x) - 1)
            ha, va, step = ("right", "top", -5) if kind == "rephrasing" else ("left", "center", 5)
            axes.annotate(label, (x[at], np.log10(seen[at])), (step, -4), textcoords="offset points", fontsize=SMALL,
                          color=COLOURS[kind], ha=ha, va=va)  # fmt: skip
    axes.axhline(math.log10(0.05), color=INK, lw=1, ls=(0, (1, 2)))
    axes.text(0.145, math.log10(0.05) - 0.08, "5 %", color=INK, fontsize=SMALL, va="top")
    axes.axvline(tau, color=INK, lw=1)
    axes.text(tau, -4.9, f" τ = {tau:g}", color=INK, fontsize=SMALL)
    uniform = f"random masks,\nk = {k},\nD = {D}:\nexact law (grey),\nsimulated (dots)"
    notes = [
        (0.312, -5.6, (0.145, -5.6), uniform, "other"),
        (0.322, -2.6, (0.145, -3.0), f"any pair\nof {N:,} masks\n(union bound)", "theory"),
        (0.385, -7.0, (0.48, -6.6), f"exact law for the small model, k = {size[0]}, D = {size[1]}", "theory"),
    ]
    for x, y, text, words, colour in notes:
        axes.annotate(words, (x, y), text, color=ink(COLOURS[colour]), fontsize=SMALL, va="center",
                      arrowprops={"arrowstyle": "-", "color": COLOURS[colour], "lw": 0.8})  # fmt: skip
    tail = overlap.log_tail(tau, k, D) / math.log(10)
    axes.text(0.48, -7.6, f"at τ the law says $10^{{{tail:.1f}}}$, far below this picture", fontsize=SMALL, color=INK)
    axes.yaxis.set_major_formatter(FuncFormatter(_power))
    axes.set(xlim=(0.14, 1), ylim=(-8.3, 0.25), xlabel="share x of columns that two masks have in common",
             ylabel="part of pairs that share at least x",
             title="Random masks never come near the threshold; a model's own masks do")  # fmt: skip
    return figure


def simulation(counts: NDArray, frame: pd.DataFrame) -> Figure:
    """Left: the histogram of all pairs on the law. Right: least to greatest share for every (k, D), and its τ."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.6), width_ratios=(1, 1.15))
    first = frame.iloc[0]
    k, D = int(first.k), int(first.D)
    c = np.flatnonzero(counts)
    law = counts.sum() * overlap.overlap_law(k, D).pmf(np.arange(c[0], c[-1] + 1))
    left.plot(c / k, counts[c], ".", color=COLOURS["other"], ms=3)
    left.plot(np.arange(c[0], c[-1] + 1) / k, law, color="0.2", lw=1)
    left.set(yscale="log", ylim=(0.5, None), xlabel="share of columns in common", ylabel="pairs of masks",
             title="Simulated pairs follow the law")  # fmt: skip
    left.text(0.5, 0.05, f"{counts.sum():,.0f}\npairs (dots),\nexact law (line)", transform=left.transAxes,
              fontsize=SMALL, ha="center")  # fmt: skip
    rows = frame.drop_duplicates("label").reset_index(drop=True)
    right.hlines(rows.index, rows.least, rows.most, color=COLOURS["other"], lw=5)
    right.plot(rows.law_most, rows.index, "|", color="0.2", ms=10)
    with_tau = rows.dropna(subset="tau")
    right.plot(with_tau.tau, with_tau.index, "x", color=COLOURS["same template"], ms=6, mew=2)
    right.set(yticks=rows.index, xlim=(0, 1), xlabel="share, least to greatest pair",
              title="Only means near τ (×) collide")  # fmt: skip
    right.set_yticklabels(rows.label, fontsize=SMALL)
    right.invert_yaxis()
    return figure


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
    names = {
        "norm": "length of M ⊙ a / of a",
        "beta": "mean cosine β of two edits",
        "dims": "effective directions D'",
    }
    for axes, (column, label) in zip(panels, names.items(), strict=True):
        bars = axes.barh(frame.masks, frame[column], color=colours)
        axes.bar_label(bars, fmt="%.0f" if column == "dims" else "%.2f", fontsize=SMALL, padding=2)
        axes.set(xlabel=label, xlim=(0, frame[column].max() * 1.25))
    panels[0].invert_yaxis()
    title = "The permutation shortens the input and parts edits; few directions remain"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def disturbance(pairs: pd.DataFrame, totals: pd.DataFrame) -> Figure:
    """Left: one later edit against one earlier, by cosine. Right: all later edits together, beside bound and walk."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.6))
    left.loglog(pairs.single_row, pairs.moved, ".", color=COLOURS["other"], ms=4, alpha=0.7)
    ends = np.array([pairs.single_row.min(), pairs.single_row.max()])
    left.loglog(ends, ends, color=COLOURS["theory"], lw=1)
    for axis in (left.xaxis, left.yaxis):
        axis.set_minor_formatter(NullFormatter())
    left.set(xlabel="predicted: ‖ΔW$_j$‖ ‖u$_i$‖ |cos(u$_i$, u$_j$)|", ylabel="measured: ‖ΔW$_j$ u$_i$‖",
             title="Cosine, not overlap, sets the damage")  # fmt: skip
    for column, marker, colour, words in (
        ("bound", "_", COLOURS["theory"], "bound"), ("walk", "x", COLOURS["same template"], "unrelated steps"),
        ("drift", ".", COLOURS["other"], "measured"),
    ):  # fmt: skip
        right.semilogy(totals.edit, totals[column] / totals.own, marker, color=colour, label=words)
    right.axhline(1, color=INK, lw=1, ls=":")
    right.text(1, 0.985, "dotted: as much as the edit itself wrote", color=INK, fontsize=SMALL, ha="right", va="top",
               transform=right.transAxes)  # fmt: skip
    right.set_ylim(None, 4 * (totals.bound / totals.own).max())
    right.legend(loc="lower left", handletextpad=0)
    right.set(xlabel="edit (oldest first)", ylabel="drift of W$_m$u$_i$ / what edit i wrote",
              title="Steps add up as a random walk")  # fmt: skip
    return figure


def capacities(curves: pd.DataFrame, streams: dict[str, pd.DataFrame], level: float) -> Figure:
    """Predicted reliability against the number of edits, one line per model of writing, and measured streams."""
    figure, axes = plt.subplots(figsize=(WIDE, 3.0))
    axes.set_ylim(0, 1.03)
    ends = []
    styles = {"exact writes": ("--", COLOURS["theory"]), "random walk": ("-", COLOURS["theory"]),
              "measured drift, extended": ("-", COLOURS["other"])}  # fmt: skip
    for name, line in curves.groupby("model", sort=False):
        style, colour = styles[name]
        axes.plot(line.N, line.reliability, style, color=colour)
        ends.append((line.reliability.iloc[-1], name.replace(", ", ",\n"), colour))
    for (name, found), marker in zip(streams.items(), "os^vDPX*" * 4, strict=False):
        axes.plot(found.n_edits, found["mean"], marker, color=COLOURS["reliability"], label=name)
    end_labels(axes, ends)
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0)
    axes.axhline(level, color=INK, lw=1, ls=":")
    axes.text(curves.N.min(), level - 0.01, f"{level:.0%}", fontsize=SMALL, color=INK, va="top")
    axes.set(xscale="log", xlabel="edits in the stream",
             ylabel="edits still answered (share)", title="How edits write decides how many fit")  # fmt: skip
    return figure
