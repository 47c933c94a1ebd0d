"""The figures of notebook 15_data, each from a tidy frame: how long the texts are, and what a model knows beforehand.

Every function returns its figure.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.plots import COLOURS, SMALL, WIDE, ink

PARTS = {"prompt": COLOURS["irrelevant"], "target": COLOURS["same template"]}
ANSWERS = {"true answer": COLOURS["irrelevant"], "target": COLOURS["same template"]}


def lengths(table: pd.DataFrame, title: str) -> Figure:
    """Tokens of prompts and targets: a box (quartiles, 1st and 99th percentile) each. table: set, part, tokens."""
    sets = list(table.set.unique())
    figure, axes = plt.subplots(figsize=(WIDE, 0.42 * len(sets) + 0.9))
    for shift, (part, colour) in zip((-0.19, 0.19), PARTS.items(), strict=True):
        rows = [table[(table.set == name) & (table.part == part)].tokens for name in sets]
        how = dict(widths=0.3, whis=(1, 99), showfliers=False, patch_artist=True, medianprops={"color": "black"})
        places = [place + shift for place in range(len(sets))]
        boxes = axes.boxplot(rows, positions=places, orientation="horizontal", **how)
        for box in boxes["boxes"]:
            box.set(facecolor=colour, alpha=0.75, linewidth=0.8)
        axes.text(rows[0].quantile(0.99) * 1.15, shift, part, color=ink(colour), fontsize=SMALL, va="center")
    middle = table.groupby("part").tokens.median()
    axes.set_yticks(range(len(sets)), sets)
    axes.set(xscale="log", xlabel="tokens (box: quartiles, whiskers: 1st and 99th percentile)")
    figure.suptitle(f"{title}:\n{middle['prompt']:.0f} and {middle['target']:.0f} at the median", x=0.01, ha="left")
    axes.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.invert_yaxis()
    return figure


def by_relation(table: pd.DataFrame, title: str) -> Figure:
    """What is answered rightly per relation, best first, beside always giving the relation's commonest answer.

    table: relation, n, commonest and a column per protocol.
    """
    table = table.sort_values([GENERATED, TEACHER_FORCED], ascending=False)
    columns = 1 if len(table) <= 15 else 2
    size = -(-len(table) // columns)
    figure, panels = plt.subplots(1, columns, figsize=(WIDE, 0.165 * size + 1.0), squeeze=False)
    for i, axes in enumerate(panels[0]):
        rows = table.iloc[i * size : (i + 1) * size]
        places = range(len(rows))
        axes.barh(places, rows.commonest, color=COLOURS["theory"], alpha=0.35, height=0.8)
        axes.plot(rows[TEACHER_FORCED], places, "o", mfc="none", color=COLOURS["rephrasing"], ms=6)
        axes.plot(rows[GENERATED], places, "o", color=COLOURS["irrelevant"], ms=4)
        axes.set_yticks(places, [f"{r.relation} ({r.n})" for r in rows.itertuples()], fontsize=SMALL)
        axes.set(xlim=(-0.02, 1.02), ylim=(size - 0.4, -0.6), xlabel="share right")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="x", alpha=0.4)
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=COLOURS["irrelevant"], label="generated, exact match"),
        plt.Line2D(
            [], [], marker="o", ls="", mfc="none", ms=6, color=COLOURS["rephrasing"], label="teacher-forced tokens"
        ),
        plt.Rectangle((0, 0), 1, 1, color=COLOURS["theory"], alpha=0.35, label="always the commonest answer"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1)
    right = (table[GENERATED] * table.n).sum() / table.n.sum()
    figure.suptitle(f"{title}:\n{right:.0%} of them when it generates", x=0.01, ha="left")
    return figure


def by_set(table: pd.DataFrame, title: str) -> Figure:
    """What the untouched model says to each set's prompts: the true answer, or the target that an edit is to write.

    table: set, answer, protocol, mean, low, high; a set without any mean was not run.
    """
    sets, protocols = list(table.set.unique()), (TEACHER_FORCED, GENERATED)
    figure, panels = plt.subplots(1, 2, figsize=(WIDE, 0.32 * len(sets) + 1.1), sharey=True)
    for axes, protocol in zip(panels, protocols, strict=True):
        for shift, (answer, colour) in zip((-0.14, 0.14), ANSWERS.items(), strict=True):
            rows = table[(table.protocol == protocol) & (table.answer == answer)].dropna(subset=["mean"])
            places = [sets.index(name) + shift for name in rows.set]
            error = [rows["mean"] - rows.low.clip(0), rows.high.clip(upper=1) - rows["mean"]]
            axes.errorbar(rows["mean"], places, xerr=error, fmt="o", color=colour, ms=4, capsize=2)
            if protocol == TEACHER_FORCED and len(rows):
                axes.text(rows.high.iloc[0] + 0.03, places[0], answer, color=ink(colour), fontsize=SMALL, va="center")
        for place, name in enumerate(sets):
            rows = table[table.set == name].set_index("protocol")["mean"]
            if rows[[protocol]].isna().all():  # asked under the other protocol only, or not at all
                text = "not run" if rows.isna().all() else "not asked: whole sentences"
                axes.text(0.02, place, text, va="center", fontsize=SMALL, color="0.4")
        axes.set_title(protocol, fontweight="normal")
        axes.set(xlim=(-0.02, 1), xlabel="token accuracy" if protocol == TEACHER_FORCED else "exact match")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="x", alpha=0.4)
    panels[0].set_yticks(range(len(sets)), sets)
    panels[0].set_ylim(len(sets) - 0.5, -0.5)
    written = table[(table.protocol == GENERATED) & (table.answer == "target")]["mean"].max()
    finding = "" if pd.isna(written) else f":\nthe target is never generated in more than {written:.0%}"
    finding = ":\nno target is ever generated" if written == 0 else finding
    figure.suptitle(f"{title}{finding}", x=0.01, ha="left")
    return figure
