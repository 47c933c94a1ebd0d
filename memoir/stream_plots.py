"""The figures of notebooks 03 and 04, each from a tidy frame that `streams.py` makes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.plots import COLOURS, COLUMN, WIDE

METRICS = ("reliability", "generalization", "locality", "neighbour locality")
WAYS = {  # where accuracy went, from best to worst
    "answered": "#4c956c", "other wording": "#f2cc8f", "overwritten": "#e07a5f", "not learnt": "#8d5a97",
    "other edit": "#3d5a80", "base model": "#98c1d9",
}  # fmt: skip


def layer_curves(sweep: pd.DataFrame, picked: int, published: int | None = None) -> Figure:
    """Metrics by layer, one thin line a seed with its interval, teacher-forced beside generated; the pick marked.

    published: the layer at the relative depth of the paper's choice.
    """
    figure, panels = plt.subplots(1, 2, figsize=(WIDE, 3.2), sharey=True)
    for axes, protocol in zip(panels, (TEACHER_FORCED, GENERATED), strict=True):
        for metric in METRICS:
            rows = sweep[(sweep.metric == metric) & (sweep.protocol == protocol)].sort_values("layer")
            for _, seed in rows.groupby("seed"):
                axes.fill_between(
                    seed.layer, seed.low, seed.high.clip(upper=1), color=COLOURS[metric], alpha=0.12, lw=0
                )
            mean = rows.groupby("layer")["mean"].mean()
            axes.plot(mean.index, mean, color=COLOURS[metric], marker="o", ms=3, label=metric)
        axes.axvline(picked, color="black", lw=1)
        axes.set(xlabel="edited layer", ylim=(0, 1.03))
        axes.set_title(protocol, fontweight="normal")
        if published is not None:
            axes.axvline(published, color=COLOURS["paper"], lw=1, ls="--")
    panels[0].set_ylabel("mean, 95 % interval")
    note = "" if published is None else f"; dashed: {published}, the paper's relative depth"
    panels[0].text(picked, 0.02, f"{picked} ", ha="right", fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"Which layer? The rule picks {picked}{note}", x=0.01, ha="left", fontweight="bold", fontsize=10)
    return figure


def layer_k_map(table: pd.DataFrame, metric: str) -> Figure:
    """Mean of a metric (teacher-forced) for each layer and k, in colour and in number."""
    rows = table[(table.metric == metric) & (table.protocol == TEACHER_FORCED)]
    grid = rows.pivot_table(index="layer", columns="k", values="mean").sort_index(ascending=False)
    figure, axes = plt.subplots(figsize=(COLUMN, 0.34 * len(grid) + 1.3))
    axes.imshow(grid, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axes.set_xticks(range(grid.shape[1]), grid.columns)
    axes.set_yticks(range(grid.shape[0]), grid.index)
    axes.set(xlabel="k, ones in a mask", ylabel="layer", title=f"{metric} by layer and k")
    return figure


def by_load(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Reliability, generalization and locality (teacher-forced) against the load N / D, ours and the paper's points.

    ours: `streams.by_edits`; paper: columns metric, load, value.
    """
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 3.0), sharey=True, sharex=True)
    shown = ours[ours.protocol == TEACHER_FORCED]
    for axes, metric in zip(panels, METRICS, strict=False):
        for (_, rows), style in zip(shown[shown.metric == metric].groupby("stream"), ("-", "--", ":"), strict=False):
            rows = rows.sort_values("load")
            axes.plot(
                rows.load, rows["mean"], style, color=COLOURS[metric], marker="o", ms=3, label=rows.stream.iloc[0]
            )
            axes.fill_between(rows.load, rows.low, rows.high.clip(upper=1), color=COLOURS[metric], alpha=0.15, lw=0)
        points = paper[paper.metric == metric]
        axes.plot(points.load, points.value, "D", color=COLOURS["paper"], ms=5, label="paper, LLaMA-3-8B")
        axes.set(xscale="log", xlabel="load N / D", ylim=(0, 1.03))
        axes.set_title(metric, fontweight="normal")
    panels[0].set_ylabel("token accuracy, 95 % interval")
    panels[0].legend(fontsize=7.5, loc="lower left")
    return figure


def by_age(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """What is left of edits after the last one, by when they were made; paper: columns share of the stream, value."""
    figure, axes = plt.subplots(figsize=(COLUMN, 2.8))
    for metric, rows in ours.groupby("metric"):
        share = rows.edits_before / (rows.edits_before.max() or 1)
        axes.plot(share, rows[TEACHER_FORCED], color=COLOURS[metric], marker="o", ms=3, label=metric)
    if len(paper):
        share = (paper.block - paper.block.min()) / (paper.block.max() - paper.block.min())
        axes.plot(share, paper.value, "D", color=COLOURS["paper"], ms=4, label="paper, reliability, 1,000 edits")
    axes.set(xlabel="edits, from the first (0) to the last (1)", ylabel="token accuracy at the end", ylim=(0, 1.03))
    axes.legend(fontsize=8)
    return figure


def where_lost(table: pd.DataFrame) -> Figure:
    """Stacked shares that add up to 1 by number of edits: answered, and where the rest went."""
    metrics = [metric for metric in METRICS if metric in set(table.metric)]
    figure, panels = plt.subplots(1, len(metrics), figsize=(WIDE, 2.9), sharey=True, squeeze=False)
    for axes, metric in zip(panels[0], metrics, strict=True):
        rows = table[table.metric == metric].sort_values("n_edits")
        bottom = np.zeros(len(rows))
        for way, colour in WAYS.items():
            if way in rows:
                axes.bar(range(len(rows)), rows[way], bottom=bottom, color=colour, width=0.8, label=way)
                bottom += rows[way].to_numpy()
        axes.set_xticks(range(len(rows)), rows.n_edits)
        axes.set(xlabel="edits", ylim=(0, 1))
        axes.set_title(metric, fontweight="normal")
    panels[0, 0].set_ylabel("share of the accuracy")
    figure.legend(*panels[0, -1].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    return figure


def irrelevant_overlap(table: pd.DataFrame, law: pd.DataFrame, threshold: float) -> Figure:
    """Best overlap of facts never edited as edits pile up, beside the law (n_edits, label, share)."""
    figure, axes = plt.subplots(figsize=(COLUMN, 2.8))
    axes.plot(table.n_edits, table.overlap, color=COLOURS["irrelevant"], marker="o", ms=3, label="mean")
    axes.plot(table.n_edits, table.overlap_99, color=COLOURS["irrelevant"], ls="--", label="99 % of them are below")
    for (label, rows), style in zip(law.groupby("label"), (":", "-."), strict=False):
        axes.plot(rows.n_edits, rows.share, color=COLOURS["theory"], ls=style, label=label)
    axes.axhline(threshold, color="black", lw=1)
    axes.text(table.n_edits.min(), threshold, f" τ = {threshold:.2f}", va="bottom", fontsize=8)
    axes.set(xscale="log", xlabel="stored edits", ylabel="best overlap share", ylim=(0, 1.03))
    axes.legend(fontsize=8, loc="lower right")
    return figure
