"""The figures of notebook 11, each from a tidy frame. Every function returns its figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.limits import many
from memoir.lab.experiments.limits.frames import LABELS
from memoir.plots import METHODS, SMALL, WIDE

COLOURS = dict(zip(LABELS.values(), (METHODS["memoir"], METHODS["rls"], METHODS["in-context"]), strict=True))


def bars(table: pd.DataFrame, kinds: dict[str, str], measure: str, title: str, before: str | None = None) -> Figure:
    """A measure by kind of question, a bar per label with its interval. table: as `frames.answers` at one length.

    kinds: what is shown, with its label. before: a measure of the untouched model, drawn as a line across the bars.
    """
    labels = [label for label in LABELS.values() if label in set(table.label)]
    figure, axes = plt.subplots(figsize=(WIDE, 2.4))
    width = 0.8 / len(labels)
    for i, label in enumerate(labels):
        rows = table[(table.label == label) & (table.measure == measure)].set_index("kind").reindex(list(kinds))
        place = np.arange(len(kinds)) + (i - (len(labels) - 1) / 2) * width
        error = np.clip([rows["mean"] - rows.low, rows.high - rows["mean"]], 0, None)
        axes.bar(place, rows["mean"], width * 0.9, yerr=error, color=COLOURS[label], label=label, ecolor="0.5")
    if before:
        rows = table[table.measure == before].groupby("kind")["mean"].first().reindex(list(kinds))
        axes.hlines(rows, np.arange(len(kinds)) - 0.45, np.arange(len(kinds)) + 0.45, color="0.3", ls=":",
                    label="untouched model")  # fmt: skip
    axes.set(ylim=(0, 1.05), title=title, ylabel="share of questions")
    axes.set_xticks(range(len(kinds)), list(kinds.values()))
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL)
    return figure


def minds(table: pd.DataFrame) -> Figure:
    """What is said after a question was edited several times. table: a row per label and scenario."""
    figure, panels = plt.subplots(1, 2, figsize=(WIDE, 2.6), sharey=True)
    names = {"latest": "the latest target", "earlier": "an earlier target", "base": "the untouched model's"}
    for axes, (label, rows) in zip(panels, table.groupby("label", sort=False), strict=False):
        rows = rows.set_index("scenario")
        rows[list(names)].astype(float).rename(columns=names).plot.barh(
            ax=axes, width=0.8, legend=False, color=[METHODS["rls"], METHODS["in-context"], "0.7"]
        )
        axes.set(title=label, xlim=(0, 1.05), ylabel="", xlabel="share of questions")
        axes.invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=SMALL)
    least = table[table.scenario != "forgotten"].groupby("label", sort=False).latest.min()
    found = " and ".join(f"{share:.0%} ({label})" for label, share in least.items())
    figure.suptitle(f"At least {found} say their latest target", x=0.01, ha="left")
    return figure


def lengths(table: pd.DataFrame) -> Figure:
    """Token accuracy of long and odd edits, by kind and group. table: a row per label, kind and group."""
    kinds = list(table.kind.unique())
    figure, panels = plt.subplots(1, len(kinds), figsize=(WIDE, 2.4), sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        for label, rows in table[table.kind == kind].groupby("label", sort=False):
            axes.plot(rows.group, rows.accuracy, "o-" if rows.group.iloc[0].isdigit() else "o", ms=4,
                      color=COLOURS[label], label=label)  # fmt: skip
        axes.set(ylim=(0, 1.05), xlabel=kind)
        axes.tick_params(axis="x", labelsize=SMALL)
    panels[0].set_ylabel("token accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=SMALL)
    words = table[table.kind == "words of the target"].astype({"group": int}).groupby("group").said.max()
    short = words.index[words >= 0.5].max()
    figure.suptitle(f"Most targets of {short} words are said in full; longer ones lose tokens", x=0.01, ha="left")
    return figure


def hops(table: pd.DataFrame) -> Figure:
    """MQuAKE's questions over several edits. table: a row per label."""
    names = {
        "edits": "each edit\nby itself", "by_steps": "step by step", "at_once": "all at once",
        "at_once_before": "all at once,\nuntouched model",
    }  # fmt: skip
    figure, axes = plt.subplots(figsize=(WIDE, 2.2))
    wide = table.set_index("label")[list(names)].astype(float).rename(columns=names).T
    wide.plot.bar(ax=axes, rot=0, width=0.7, legend=False, color=[COLOURS[label] for label in wide])
    axes.set(ylim=(0, 1.05), ylabel="share of questions", title="A question over four edits, step by step and at once")
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL)
    return figure


def stored(table: pd.DataFrame) -> Figure:
    """What masks let in and find, by the number of stored prompts. table: as `many.measure`; dotted: continued."""
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 2.4), sharey=True, sharex=True)
    names = {"default": "default τ", "calibrated": "τ that lets in 1 % of other irrelevant prompts"}
    titles = {
        "irrelevant": "irrelevant prompts let in", "near neighbour": "near neighbours let in",
        "rephrasing": "rephrasings that find\ntheir own fact",
    }  # fmt: skip
    for axes, (kind, title) in zip(panels, titles.items(), strict=True):
        for (name, label), colour in zip(names.items(), (METHODS["memoir"], METHODS["rls"]), strict=True):
            rows = table[(table.kind == kind) & (table.threshold == name)]
            axes.plot(rows.n, rows.own if kind == "rephrasing" else rows.routed, "o-", ms=4, color=colour, label=label)
            if kind == "irrelevant":
                axes.fill_between(rows.n, rows.low, rows.high, color=colour, alpha=0.2, linewidth=0)
                further = many.continued(table).query("threshold == @name")
                axes.plot([rows.n.iloc[-1], *further.n], [rows.routed.iloc[-1], *further.routed], ":", color=colour)
        axes.set(xscale="log", ylim=(0, 1.05), xlabel="prompts stored")
        axes.set_title(title, fontweight="normal")
    panels[0].set_ylabel("share of questions")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=SMALL)
    figure.suptitle("With more edits stored, more questions find one that is not theirs", x=0.01, ha="left")
    return figure
