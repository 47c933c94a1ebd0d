"""The figures of notebook 12, each from a tidy frame. Every function returns its figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir.metrics import AVERAGED
from memoir.plots import COLOURS, COLUMN, METHODS, SMALL, WIDE, curve, spaced

UPDATES = {
    "sgd": ("the paper's update", METHODS["memoir"]), "rls": ("recursive least squares", METHODS["rls"]),
    "both": ("least squares and a lexical gate", METHODS["in-context"]),
}  # fmt: skip


def protection(table: pd.DataFrame, ridge: float) -> Figure:
    """What a write moves of earlier edits: against λ at full rank, and against the rank of P at λ = ridge."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.1), sharey=True)
    paper = table[~np.isfinite(table.ridge.astype(float))].moved.item()
    full = table["rank"].max()
    by_ridge = table[(table["rank"] == full) & np.isfinite(table.ridge.astype(float))].sort_values("ridge")
    by_rank = table[table.ridge == ridge].sort_values("rank")
    left.plot(by_ridge.ridge, by_ridge.moved, "o-", color=METHODS["rls"])
    right.plot(by_rank["rank"], by_rank.moved, "o-", color=METHODS["rls"])
    for axes in (left, right):
        axes.axhline(paper, color=METHODS["memoir"], ls="--")
    left.text(by_ridge.ridge.min(), paper, "the paper's update", color=METHODS["memoir"], fontsize=SMALL, va="bottom")
    left.set(xscale="log", ylim=(0, 1.25 * paper), xlabel="λ", ylabel="moved, per unit of\nwhat the write itself gets")
    right.set(xscale="log", xlabel=f"directions that P remembers (λ = {ridge:g})")
    right.set_xticks(by_rank["rank"], [f"{r}" for r in by_rank["rank"]], minor=False)
    right.minorticks_off()
    figure.suptitle("A projected write moves less of what earlier edits read", x=0.01, ha="left")
    return figure


def streams(
    table: pd.DataFrame, protocol: str, paper: pd.DataFrame | None = None, again: pd.DataFrame | None = None
) -> Figure:
    """Metrics against the number of edits, a line per update. table: columns update, metric, protocol, mean, low, high.

    paper: columns metric, n_edits (ours at the same load), value; drawn as diamonds. again: as table, of other records;
    drawn as dotted lines.
    """
    figure, panels = plt.subplots(1, len(AVERAGED), figsize=(WIDE, 2.5), sharey=True)
    for axes, metric in zip(panels, AVERAGED, strict=True):
        rows = table[(table.metric == metric) & (table.protocol == protocol)]
        for update, (label, colour) in UPDATES.items():
            if len(own := rows[rows["update"] == update]):
                curve(axes, own, "n_edits", colour, label=label)
            if again is not None and len(again):
                own = again[(again.metric == metric) & (again.protocol == protocol) & (again["update"] == update)]
                own = own[own.n_edits.isin(rows.n_edits)]
                if len(own):
                    axes.plot(own.n_edits, own["mean"], "o:", ms=3, color=colour, label=f"{label}, other records")
        if paper is not None:
            own = paper[paper.metric == metric]
            axes.plot(own.n_edits, own.value, "D", color=COLOURS["paper"], ms=4, label="paper's 8B model, equal load")
        axes.set(xscale="log", xlabel="edits", ylim=(0, 1.05))
        axes.set_title(metric, fontweight="normal")
        counts = sorted(rows.n_edits.unique())
        axes.set_xticks(counts, spaced(counts))
        axes.minorticks_off()
    panels[0].set_ylabel(f"{protocol},\nmean, 95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    last = table[(table.metric == "reliability") & (table.protocol == protocol)]
    last = last[last.n_edits == last.n_edits.max()]
    kept = [f"{label} {rows['mean'].item():.2f}" for update, (label, _) in UPDATES.items()
            if len(rows := last[last["update"] == update])]  # fmt: skip
    figure.suptitle(f"Reliability after {last.n_edits.max():,} edits:\n{', '.join(kept)}", x=0.01, ha="left")
    return figure


def forgetting(values: pd.DataFrame, blocks: int) -> Figure:
    """Reliability after the last edit, by the age of the edit. values: columns update, position, value."""
    figure, axes = plt.subplots(figsize=(COLUMN, 2.1))
    oldest = []
    for update, rows in values.groupby("update", sort=False):
        label, colour = UPDATES[update]
        found = rows.groupby(pd.cut(rows.position, blocks), observed=True).agg(
            at=("position", "mean"), mean=("value", "mean"), error=("value", "sem")
        )
        axes.errorbar(found["at"], found["mean"], 1.96 * found.error, fmt="o-", color=colour, capsize=2, label=label)
        oldest.append(f"{'' if update == 'sgd' else f'under {update} '}{found['mean'].iloc[0]:.2f}")
    axes.set(ylim=(0, 1.05), xlabel="place in the stream (left: written first)", ylabel="reliability at the end",
             title=f"Left of the oldest {1 / blocks:.0%}: {', '.join(oldest)}")  # fmt: skip
    axes.legend(loc="lower right", fontsize=SMALL)
    return figure


def about(rates: pd.DataFrame, chosen: float) -> Figure:
    """What is routed, by kind of question, against the threshold of `router="meaning"`. rates: `about.rates`' columns.

    chosen: the router's own threshold, drawn as a line across.
    """
    figure, axes = plt.subplots(figsize=(WIDE, 2.5))
    shown = {"rephrasing": "rephrasing", "same subject": "same template", "negated": "theory"}
    for kind, name in (shown | {"near neighbour": "near neighbour", "irrelevant": "irrelevant"}).items():
        rows = rates[(rates.kind == kind) & (rates.part == "all")].sort_values("threshold")
        value = rows.own if kind == "rephrasing" else rows.routed
        label = "rephrasing, to its own edit" if kind == "rephrasing" else f"{kind}, to any edit"
        axes.plot(rows.threshold, value, "o-", ms=4, color=COLOURS[name], label=label)
    unseen = rates[(rates.kind == "rephrasing") & (rates.part == "unseen")].sort_values("threshold")
    axes.plot(unseen.threshold, unseen.own, "o--", ms=4, color=COLOURS["rephrasing"],
              label="rephrasing, of relations\nthat the map has not seen")  # fmt: skip
    axes.axvline(chosen, color="black", lw=1, ls=":", label="the router's threshold")
    axes.set(ylim=(0, 1.02), xlabel="threshold on share of words + cosine − 1", ylabel="share that is routed",
             title="What is let in, by how near a question must come")  # fmt: skip
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=SMALL)
    return figure


def frontier(curves: pd.DataFrame, aims: tuple[float, float]) -> Figure:
    """Rephrasings matched to their own edit against near neighbours routed, a line per way of routing.

    curves: columns way, own, near neighbour, a row per limit. aims: (near neighbours at most, own edit at least).
    """
    figure, axes = plt.subplots(figsize=(WIDE, 2.5))
    for way, line in curves.groupby("way", sort=False):
        line = line.sort_values("near neighbour")
        axes.plot(line["near neighbour"], line.own, "o-", ms=4, label=way)
    axes.add_patch(plt.Rectangle((0, aims[1]), aims[0], 1 - aims[1], color=COLOURS["reliability"], alpha=0.15, lw=0))
    axes.annotate("the aim", (aims[0], aims[1] + 0.04), (5, 0), textcoords="offset points", fontsize=SMALL)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="near neighbours routed to an edit",
             ylabel="rephrasings matched\nto their own edit",
             title="Rephrasings kept, for the near neighbours let in")  # fmt: skip
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=SMALL)
    return figure
