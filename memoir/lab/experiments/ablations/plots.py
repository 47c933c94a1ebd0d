"""The figures of notebook 08, each from a tidy frame that `frames.py` makes."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.ablations.frames import ALWAYS, BASE, HELD, PARTS, RECALIBRATED
from memoir.plots import COLOURS, SMALL, WIDE

MARKS = {  # filled: the default threshold; open: recalibrated for the row
    HELD: dict(marker="o"), RECALIBRATED: dict(marker="o", markerfacecolor="white"),
    ALWAYS: dict(marker="s"), BASE: dict(marker="x"),
}  # fmt: skip


def rows(table: pd.DataFrame, parts: Sequence[str], title: str) -> Figure:
    """One line a row of the ablation, grouped by what it changes: our means with intervals, the paper's beside them.

    table: as `frames.rows` gives it; parts: the groups to show, after the default row.
    """
    table = table[table.part.isin(["default", "no editing", *parts]) & table.metric.isin(PARTS)]
    names = list(dict.fromkeys(table.sort_values("part", key=lambda p: p.map(_order(parts)), kind="stable").row))
    labels = table.drop_duplicates("row").set_index("row")
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 0.21 * len(names) + 1.4), sharey=True)
    for axes, metric in zip(panels, PARTS, strict=True):
        here = table[table.metric == metric]
        for how, shift in ((HELD, -0.15), (RECALIBRATED, 0.15), (ALWAYS, 0.0), (BASE, 0.0)):
            own = here[(here.how == how) & ((how != ALWAYS) | ~here.row.isin(here[here.how == HELD].row))]
            places = [names.index(name) + shift for name in own.row]
            error = [own["mean"] - own.low.clip(0), own.high.clip(upper=1) - own["mean"]]
            style = dict(color=COLOURS[metric], ms=4, lw=1, ls="none", **MARKS[how])
            axes.errorbar(own["mean"], places, xerr=error, label=how, **style)
        printed = here.dropna(subset="paper").drop_duplicates("row")
        places = [names.index(name) for name in printed.row]
        axes.plot(printed.paper, places, "D", color=COLOURS["paper"], ms=4, label="paper")
        beside = here.drop_duplicates("row")
        places = [names.index(name) for name in beside.row]
        axes.plot(beside.default, places, "|", color="black", ms=11, mew=0.8, label="default, same records")
        axes.set(xlim=(-0.03, 1.05), xlabel=metric)
    panels[0].set_yticks(range(len(names)), [_label(labels.loc[name]) for name in names], fontsize=SMALL)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{title}: {_largest(table)}", x=0.01, ha="left")
    return figure


def _largest(table: pd.DataFrame) -> str:
    """The largest loss among the rows, at the default threshold where a row has it."""
    held = table.how == HELD
    edited = table[(held | ((table.how == ALWAYS) & ~table.row.isin(table.row[held]))) & table.default.notna()]
    row = edited.loc[(edited["mean"] - edited.default).idxmin()]
    return f"the largest loss is in {row.metric},\n{row['mean']:.2f} instead of {row.default:.2f}, with {_label(row)}"


def by_k(table: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Metrics against k/D with the threshold held and recalibrated, beside the paper's Figure 6.

    table: `frames.rows`; paper: `frames.paper_by_k`.
    """
    table = table[(table.part == "k") | (table.row == "default")]
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 2.4), sharey=True)
    for axes, metric in zip(panels, PARTS, strict=True):
        for how, style in ((HELD, "-"), (RECALIBRATED, "--")):
            own = table[(table.metric == metric) & (table.how == how)].sort_values("k")
            axes.plot(own.k / own.D, own["mean"], style, color=COLOURS[metric], ms=4, label=how, **MARKS[how])
            axes.fill_between(own.k / own.D, own.low, own.high.clip(upper=1), color=COLOURS[metric], alpha=0.12, lw=0)
        points = paper[paper.metric == metric]
        axes.plot(points.share, points.value, "D", color=COLOURS["paper"], ms=4, label="paper, τ held")
        axes.set(xscale="log", xlabel="k / D", ylim=(0, 1.03))
        axes.set_xticks(
            [0.04, 0.07, 0.14, 0.29, 0.57, 1.0], ["0.04", "0.07", "0.14", "0.29", "0.57", "1"], fontsize=SMALL
        )
        axes.minorticks_off()
        axes.set_title(metric, fontweight="normal")
    panels[0].set_ylabel("token accuracy, 95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    best = table[(table.metric == "reliability") & (table.how == HELD)].sort_values("mean").iloc[-1]
    figure.suptitle(f"Reliability is best with k/D = {best.k / best.D:.2f}", x=0.01, ha="left")
    return figure


def by_threshold(swept: pd.DataFrame, default: float) -> Figure:
    """Metrics against τ, a thin line a seed. swept: the first of what `frames.curves` gives."""
    figure, axes = plt.subplots(figsize=(WIDE, 2.6))
    for metric in PARTS:
        own = swept[swept.metric == metric]
        for _, seed in own.groupby("seed"):
            axes.plot(seed.tau, seed["mean"], color=COLOURS[metric], lw=0.7, alpha=0.6)
        mean = own.groupby("tau")["mean"].mean()
        axes.plot(mean.index, mean, color=COLOURS[metric], lw=2, label=metric)
    axes.axvline(default, color="black", lw=1)
    axes.text(default, 0.02, f" τ = {default:.2f}", fontsize=SMALL)
    axes.set(xlabel="τ", ylabel="token accuracy", xlim=(0, 1), ylim=(0, 1.03))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    means = swept.groupby(["tau", "metric"])["mean"].mean().unstack()[list(PARTS)].mean(axis=1)
    axes.set_title(f"The mean of the three is highest at τ = {means.idxmax():.2f}")
    return figure


def _order(parts: Sequence[str]) -> dict[str, int]:
    return {part: i for i, part in enumerate(["default", *parts, "no editing"])}


def _label(row: pd.Series) -> str:
    return row.label if row.part in (row.label, "k") else f"{row.part}: {row.label}"
