"""The figures of notebook 02 that hold measurements against the laws of overlap and capacity."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from memoir.lab.experiments.masks.plots import INK, KINDS
from memoir.plots import COLOURS, SMALL, WIDE, end_labels, ink, mark_mixed
from memoir.theory import overlap


def _power(value: float, _position: int) -> str:
    return {0.0: "1", -1.0: "0.1", -2.0: "0.01"}.get(value, f"$10^{{{value:.0f}}}$")


def collisions(simulated: NDArray, real: pd.DataFrame, k: int, D: int, N: int, tau: float, size: tuple) -> Figure:
    """The whole question: P(two masks share at least x), for random masks and for a model's own.

    simulated: pair histogram of uniform masks at (k, D); real: a histogram row per kind and count at size = (k, D, τ)
    of the small model; tau: the paper's.
    Labels are placed for the claim's size.
    """
    figure, axes = plt.subplots(figsize=(WIDE, 3.3))
    share, law = overlap.survival(overlap.overlap_law(k, D).pmf(np.arange(k + 1)), k)
    axes.plot(share, np.log10(law), color=COLOURS["theory"], lw=4, alpha=0.6)
    any_pair = np.minimum(np.log10(law) + math.log10(math.comb(N, 2)), 0)
    axes.plot(share, any_pair, color=COLOURS["theory"], lw=1.5, ls="--")
    small, wide = overlap.survival(overlap.overlap_law(*size[:2]).pmf(np.arange(size[0] + 1)), size[0])
    axes.plot(small, np.log10(wide), color=COLOURS["theory"], lw=1.2, ls=":")
    x, seen = overlap.survival(simulated, k)
    pick = np.unique(np.r_[np.arange(0, len(x), max(len(x) // 80, 1)), len(x) - 1])
    axes.plot(x[pick], np.log10(seen[pick]), ".", color=COLOURS["other"], ms=5)
    for kind, label in KINDS.items():
        counts = real[real.kind == kind].groupby("count").pairs.sum()
        if len(counts):
            x, seen = overlap.survival(np.bincount(counts.index, weights=counts), size[0])
            axes.plot(x, np.log10(seen), color=COLOURS[kind], lw=2)
            depth = {"irrelevant": 4.0, "rephrasing": 2.2, "same template": 2.6}[kind]
            at = min(int(np.searchsorted(-np.log10(seen), depth)), len(x) - 1)
            ha, va, step = ("right", "top", -5) if kind == "rephrasing" else ("left", "center", 5)
            axes.annotate(label, (x[at], np.log10(seen[at])), (step, -4), textcoords="offset points", fontsize=SMALL,
                          color=COLOURS[kind], ha=ha, va=va)  # fmt: skip
    axes.axhline(math.log10(0.05), color=INK, lw=1, ls=(0, (1, 2)))
    axes.text(0.145, math.log10(0.05) - 0.08, "5 %", color=INK, fontsize=SMALL, va="top")
    axes.axvline(tau, color=INK, lw=1)
    axes.text(tau, -4.9, f" τ = {tau:g}", color=INK, fontsize=SMALL)
    axes.axvline(size[2], color=INK, lw=1, ls=":")
    axes.text(size[2], -3.4, f" τ = {size[2]:g}, this model's", color=INK, fontsize=SMALL)
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
              title="Collisions: k/D beyond τ (×)")  # fmt: skip
    right.set_yticklabels(rows.label, fontsize=SMALL)
    right.invert_yaxis()
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
             title="The cosine predicts the damage")  # fmt: skip
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
        (drawn,) = axes.plot(found.n_edits, found["mean"], marker, color=COLOURS["reliability"], label=name)
        mark_mixed(axes, found, "n_edits", drawn)
    end_labels(axes, ends)
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0)
    axes.axhline(level, color=INK, lw=1, ls=":")
    axes.text(curves.N.min(), level - 0.01, f"{level:.0%}", fontsize=SMALL, color=INK, va="top")
    axes.set(xscale="log", xlabel="edits in the stream",
             ylabel="share still right:\nanswers, or their tokens",
             title="How edits write decides how many fit")  # fmt: skip
    return figure
