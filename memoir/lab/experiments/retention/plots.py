"""The figures of notebook 07, each from a tidy frame that `frames.py` makes."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from memoir.plots import COLOURS, METHODS, SMALL, WIDE

STYLES = {  # what routes to a memory is drawn solid, what writes the model's own weights dashed
    "MEMOIR, default τ": dict(color=METHODS["memoir"], marker="o", linewidth=1.8),
    "MEMOIR, τ calibrated": dict(color=COLOURS["irrelevant"], marker="s", linewidth=1.8),
    "FT-L, lr 5e-4": dict(color=METHODS["ft-l"], marker="D", linestyle="--"),
    "FT, lr 1e-5": dict(color=METHODS["ft"], marker="^", linestyle="--"),
    "FT, lr 5e-4": dict(color=METHODS["lora"], marker="v", linestyle="--"),
}


# ROME's scores, each with the colour of the questions that it is about
SCORES = {
    "efficacy": COLOURS["edited prompt"], "paraphrase": COLOURS["rephrasing"],
    "neighbourhood": COLOURS["near neighbour"],
}  # fmt: skip


def retention(shares: pd.DataFrame, claimed: float) -> Figure:
    """Share of the known answers that is still right, by number of edits, a panel per set. shares: `frames.shares`."""
    sets = list(shares.set.unique())
    figure, panels = plt.subplots(1, len(sets), figsize=(WIDE, 2.4), sharey=True, squeeze=False)
    for axes, name in zip(panels[0], sets, strict=True):
        rows = shares[shares.set == name]
        for label, own in rows.groupby("label", sort=False):
            axes.fill_between(own.n_edits, own.low, own.high, color=STYLES[label]["color"], alpha=0.12, lw=0)
        _lines(axes, rows, "kept")
        axes.axhline(claimed, color=COLOURS["paper"], lw=1, ls=":")
        axes.set(ylim=(0, 1.03))
        axes.set_title(f"{name}\n{rows.known.max():,} of {rows.asked.max():,} known", fontweight="normal")
    panels[0, 0].set_ylabel("share still right, 95 % interval")
    longest = shares.n_edits.max()
    last = shares[shares.n_edits == longest].groupby("label").kept.agg(["min", "max"]).sort_values("min")
    ends = "; ".join(f"{row.Index}: {row.min:.1%} to {row.max:.1%}" for row in last.iloc[[-1, 0]].itertuples())
    title = f"Known facts still right after {longest:,} edits (dotted: the claimed {claimed:.1%}).\n{ends}"
    return _finished(figure, panels[0], title)


def scores(contrasts: pd.DataFrame) -> Figure:
    """ROME's three scores by number of edits, the untouched model's dotted. contrasts: `frames.contrasts`."""
    titles = {"efficacy": "new answer beats the true one:\nedited prompts", "paraphrase": "the same: paraphrases",
              "neighbourhood": "neighbours: their own answer\nbeats the new one"}  # fmt: skip
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 2.4), sharey=True)
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        rows = contrasts[contrasts.metric == metric]
        _lines(axes, rows, "mean")
        before = rows.groupby("n_edits").before.first()
        axes.plot(before.index, before, color=COLOURS["paper"], ls=":", lw=1.2)
        axes.set(ylim=(0, 1.03))
        axes.set_title(title, fontweight="normal", fontsize=SMALL)
    panels[0].set_ylabel("share of records")
    return _finished(figure, panels, "Which answer is likelier (dotted: before any edit)")


def ability(table: pd.DataFrame) -> Figure:
    """Perplexity of neutral text and the share of sensible choices, by number of edits. table: `frames.ability`."""
    figure, panels = plt.subplots(1, 2, figsize=(WIDE, 2.4))
    for axes, what in zip(panels, ("perplexity", "choices"), strict=True):
        _lines(axes, table, what)
        axes.axhline(table[f"{what}_before"].iloc[0], color=COLOURS["paper"], lw=1.2, ls=":")
    panels[0].set(yscale="log", ylabel="perplexity of neutral text")
    panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if table.perplexity.max() < 1000:  # less than two decades: ticks between their ends
        panels[0].yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    panels[1].set(ylim=(0, 1.03), ylabel="share of sensible choices")
    return _finished(figure, panels, "General ability (dotted: before any edit; chance is a half on the right)")


def traded(table: pd.DataFrame, marked: dict[str, float]) -> Figure:
    """What τ trades: shares kept and ROME's scores against τ. table: `frames.by_threshold`; marked: τ by its label."""
    figure, axes = plt.subplots(figsize=(WIDE, 2.4))
    known = iter([COLOURS["irrelevant"], COLOURS["theory"], "black"])
    for what, rows in table.groupby("what", sort=False):
        style, colour = ("-", SCORES[what]) if what in SCORES else ("--", next(known))
        axes.plot(rows.tau, rows.value, style, color=colour, label=what)
    for height, (label, tau) in zip((0.12, 0.04), marked.items(), strict=False):
        axes.axvline(tau, color="black", lw=1)
        axes.text(tau, height, f" {label}: {tau:.2f}", fontsize=SMALL)
    axes.set(xlabel="τ", ylabel="share", ylim=(0, 1.03), xlim=(0, 1))
    axes.set_title("What τ trades (dashed: known facts still right)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, value: str) -> None:
    for label, own in rows.groupby("label", sort=False):
        own = own.sort_values("n_edits")
        axes.plot(own.n_edits, own[value], label=label, ms=4, **STYLES[label])
    axes.set(xscale="log", xlabel="edits")


def _finished(figure: Figure, panels: list[Axes], title: str) -> Figure:
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(title, x=0.01, ha="left")
    return figure
