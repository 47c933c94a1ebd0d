"""README's figure and those of notebooks 00 and 04, each from a tidy frame that `frames.py` makes."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir.facts.registry import TITLES
from memoir.lab.evidence.table import over_orders
from memoir.metrics import AVERAGED, GENERATED, TEACHER_FORCED
from memoir.plots import COLOURS, COLUMN, METHODS, MIXED, SMALL, WIDE, contrast, curve, end_labels, mark_mixed, spaced

METRICS = (*AVERAGED, "neighbour locality")
UPDATES = {"sgd": "paper's update", "rls": "rls"}
WAYS = {  # where accuracy went, from best to worst
    "answered": "#4c956c", "other wording": "#f2cc8f", "overwritten": "#e07a5f", "not learnt": "#8d5a97",
    "other edit": "#3d5a80", "base model": "#98c1d9",
}  # fmt: skip


def story(ours: pd.DataFrame, rls: pd.DataFrame, paper: pd.DataFrame, lost: pd.DataFrame) -> Figure:
    """README's figure: how many edits last as they pile up, and where the rest went after the last of them.

    ours, rls: `frames.by_edits` of one stream under each update; paper: columns metric, n_edits (ours at the same
    load), value; lost: `frames.where_lost` of the first stream.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.6), width_ratios=(1, 1.1))
    left.set_ylim(0, 1.05)
    ends, kept = [], {}
    for update, rows, colour in (("paper's", ours, METHODS["memoir"]), ("rls", rls, METHODS["rls"])):
        for protocol, style, what in ((TEACHER_FORCED, "o-", "tokens"), (GENERATED, "o--", "answers")):
            line = rows[(rows.protocol == protocol) & (rows.metric == "reliability")].sort_values("n_edits")
            if len(line):
                curve(left, line, "n_edits", colour, style, ms=3)
                ends.append((line["mean"].iloc[-1], f"{update}, {what}", colour))
                kept[update, what] = line.iloc[-1]
    points = paper[(paper.metric == "reliability") & (paper.n_edits <= 1.2 * ours.n_edits.max())]
    left.plot(points.n_edits, points.value, "D", mfc="none", color=COLOURS["paper"], ms=4.5)
    end_labels(left, ends, gap=0.09)
    counts = sorted(ours.n_edits.unique())
    left.set(xscale="log", xlabel="edits, one after the other", ylabel="edited prompts that\nare still answered")
    named = "◇ tokens as printed for LLaMA-3-8B, equal load"
    if MIXED in left.get_legend_handles_labels()[1]:
        named = f"○ {MIXED}\n{named}"
    left.set_title(named, fontweight="normal", fontsize=SMALL + 0.5)
    left.set_xticks(counts, spaced(counts))
    left.minorticks_off()

    last = lost[lost.n_edits == lost.n_edits.max()].set_index("metric").loc[["generalization", "reliability"]]
    start = np.zeros(len(last))
    for way, colour in WAYS.items():
        if way in last:
            right.barh(["rephrasings", "edited\nprompts"], last[way], left=start, color=colour, height=0.55, label=way)
            for place, share in enumerate(last[way]):
                if share >= 0.06:
                    right.text(start[place] + share / 2, place, f"{100 * share:.0f}", ha="center", va="center",
                               fontsize=SMALL, color="white" if contrast(colour) > 3 else "black")  # fmt: skip
            start = start + last[way].to_numpy()
    right.set(xlim=(0, 1), xlabel="share of the tokens, %", xticks=[0, 0.25, 0.5, 0.75, 1])
    right.set_xticklabels(["0", "25", "50", "75", "100"])
    n = lost.n_edits.max()
    right.set_title(f"the paper's update, {n:,} edits", fontweight="normal", fontsize=SMALL + 0.5)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=6, handlelength=1)
    figure.suptitle("\n".join(_news(kept)), x=0.01, ha="left")
    return figure


def _news(kept: dict[tuple[str, str], pd.Series]) -> Iterator[str]:
    """What the story says, an update a line. kept: the last row of each of its lines."""
    tokens, whole = kept["paper's", "tokens"], kept.get(("paper's", "answers"))
    said = f"{whole['mean']:.0%} of {whole.n_edits:,} answers " if whole is not None else ""
    yield f"The paper's update keeps {said}({tokens['mean']:.0%} of their tokens);"
    if ("rls", "tokens") in kept:
        tokens, whole = kept["rls", "tokens"], kept.get(("rls", "answers"))
        said = f"{whole['mean']:.0%} of {whole.n_edits:,} " if whole is not None else ""
        yield f"an update that does not overwrite (rls) keeps {said}({tokens['mean']:.0%})"


KINDS = {
    "zsre-edit": "false answers\n(the edit file)", "zsre-swapped": "false answers\n(swapped)",
    "zsre-true": "true answers",
}  # fmt: skip


def orders(rows: pd.DataFrame) -> Figure:
    """Reliability by what is written, an update a colour: small dots are orders, the large one their mean.

    rows: `lab.results` of one protocol, at the longest of its lengths; the bar is the interval over the orders.
    """
    rows = rows[(rows.metric == "reliability") & (rows.n_edits == rows.n_edits.max())]
    figure, axes = plt.subplots(figsize=(COLUMN * 1.6, 2.2))
    kinds = [name for name in KINDS if name in set(rows.dataset)]
    for update, shift in (("sgd", 0.14), ("rls", -0.14)):
        own, colour = rows[rows["update"] == update], METHODS["memoir" if update == "sgd" else "rls"]
        axes.plot(own["mean"], [kinds.index(name) + shift for name in own.dataset], "o", ms=3, mfc="none", color=colour)
        for one in over_orders(own).itertuples():
            place = kinds.index(one.dataset) + shift
            axes.plot([one.low, min(one.high, 1)], [place, place], color=colour, lw=1)
            label = UPDATES[update] if one.dataset == kinds[0] else ""
            axes.plot(one.mean, place, "o", ms=6, color=colour, label=label)
    axes.set(
        yticks=range(len(kinds)), ylim=(-0.6, len(kinds) - 0.4), xlabel=f"reliability after {rows.n_edits.max()} edits"
    )
    axes.set_yticklabels([KINDS[name] for name in kinds])
    figure.legend(loc="outside lower center", ncols=2)
    gap = over_orders(rows[rows["update"] == "sgd"]).set_index("dataset")["mean"]
    figure.suptitle(_of_kinds(gap), x=0.01, ha="left")
    return figure


def _of_kinds(means: pd.Series) -> str:
    if not {"zsre-swapped", "zsre-true"} <= set(means.index):
        return "What is written matters to how much is kept"
    gap = means["zsre-true"] - means["zsre-swapped"]
    more = f"{abs(gap):.2f} {'more' if gap > 0 else 'less'}"
    return f"The paper's update keeps {more} of true answers\nthan of false ones to the same questions"


STREAMS = {  # their marks and lines
    "zsre": "o-", "openfacts": "o--", "zsre-singles": "o:",
    "zsre, other records, true answers": "s-", "openfacts, other records": "s--",
}  # fmt: skip


def by_load(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Reliability, generalization and locality (teacher-forced) against the load N / D, ours and the paper's points.

    ours: `frames.by_edits`, with `frames.other_records` if there are any; paper: columns metric, load, value.
    """
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 2.4), sharey=True, sharex=True)
    shown = ours[ours.protocol == TEACHER_FORCED]
    for axes, metric in zip(panels, METRICS, strict=False):
        for name, rows in shown[shown.metric == metric].groupby("stream"):
            curve(axes, rows, "load", COLOURS[metric], STREAMS.get(name, "o-."), ms=3, label=name)
        points = paper[paper.metric == metric]
        axes.plot(points.load, points.value, "D", color=COLOURS["paper"], ms=4, label="paper, LLaMA-3-8B")
        axes.set(xscale="log", xlabel="load N / D", ylim=(0, 1.03))
        axes.set_title(metric, fontweight="normal")
    panels[0].set_ylabel("token accuracy,\n95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=SMALL)
    figure.suptitle(_kept(shown), x=0.01, ha="left")
    return figure


def _kept(shown: pd.DataFrame) -> str:
    """The finding: what of reliability is left at the end of the longest stream."""
    last = shown[shown.metric == "reliability"].sort_values("n_edits").iloc[-1]
    return f"After {last.n_edits:,} edits ({last.stream}) {last['mean']:.0%} of an edit's tokens are still answered"


def by_age(ours: pd.DataFrame, paper: pd.DataFrame, load: float) -> Figure:
    """What is left of edits after the last one, by when they were made; load: N / D then, for the paper's is another.

    ours: `frames.by_age`; paper: `frames.paper_by_age`.
    """
    figure, axes = plt.subplots(figsize=(COLUMN, 2.2))
    axes.set_ylim(0, 1.03)
    ends = []
    for metric, rows in ours.groupby("metric"):
        share = rows.edits_before / (rows.edits_before.max() or 1)
        axes.plot(share, rows[TEACHER_FORCED], "o-", color=COLOURS[metric], ms=3)
        ends.append((rows[TEACHER_FORCED].iloc[-1], metric, COLOURS[metric]))
    if len(paper):
        share = (paper.block - paper.block.min()) / (paper.block.max() - paper.block.min())
        axes.plot(share, paper.value, "D", color=COLOURS["paper"], ms=3.5)
        ends.append((paper.value.iloc[-1], f"paper, reliability,\nload {paper.load.iloc[0]:.2f}", COLOURS["paper"]))
    end_labels(axes, ends, gap=0.13)
    kept = ours[ours.metric == "reliability"].sort_values("edits_before")[TEACHER_FORCED]
    axes.set(xlabel="edits, from the first (0) to the last (1)", ylabel="token accuracy at the end",
             title=f"Oldest tenth at load {load:.2g}: {kept.iloc[0]:.2f}")  # fmt: skip
    return figure


def where_lost(table: pd.DataFrame) -> Figure:
    """Stacked shares that add up to 1 by number of edits: answered, and where the rest went."""
    metrics = [metric for metric in METRICS if metric in set(table.metric)]
    figure, panels = plt.subplots(1, len(metrics), figsize=(WIDE, 2.2), sharey=True, squeeze=False)
    for axes, metric in zip(panels[0], metrics, strict=True):
        rows = table[table.metric == metric].sort_values("n_edits")
        bottom = np.zeros(len(rows))
        for way, colour in WAYS.items():
            if way in rows:
                axes.bar(range(len(rows)), rows[way], bottom=bottom, color=colour, width=0.8, label=way)
                bottom += rows[way].to_numpy()
        axes.set_xticks(range(len(rows)), [f"{n:,}" for n in rows.n_edits], rotation=45 if len(rows) > 5 else 0)
        axes.set(xlabel="edits", ylim=(0, 1))
        axes.set_title(metric, fontweight="normal")
    panels[0, 0].set_ylabel("share of the accuracy")
    found = [axes.get_legend_handles_labels() for axes in panels[0]]
    seen = {label: handle for handles, labels in found for handle, label in zip(handles, labels, strict=True)}
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=6, columnspacing=1, handlelength=1.2)
    most = table[table.n_edits == table.n_edits.max()].reindex(columns=list(WAYS)[1:]).mean().idxmax()
    figure.suptitle(f"Of what is lost after {table.n_edits.max():,} edits, most: {most}", x=0.01, ha="left")
    return figure


def foretold(table: pd.DataFrame) -> Figure:
    """What streams keep (points, 95 % interval) and what the formulas foretell (lines), fitted left of the dotted line.

    table: `fading.predicted`, a stream for each data set and update.
    """
    figure, axes = plt.subplots(figsize=(COLUMN + 0.6, 2.4))
    ends = []
    for (dataset, update), rows in table.groupby(["dataset", "update"]):
        colour, marker = METHODS["memoir" if update == "sgd" else update], "o" if dataset == "zsre" else "s"
        error = [rows["mean"] - rows.low, rows.high - rows["mean"]]
        drawn = axes.errorbar(rows.n_edits, rows["mean"], yerr=error, fmt=marker, color=colour, ms=3.5, lw=0.9)
        mark_mixed(axes, rows, "n_edits", drawn.lines[0])
        axes.plot(rows.n_edits, rows.predicted, "-" if dataset == "zsre" else "--", color=colour, lw=1)
        ends.append((rows.predicted.iloc[-1], f"{TITLES[dataset]}, {UPDATES[update]}", colour))
    axes.set(
        xscale="log", ylim=(0, 1.05), xlabel="edits, one after the other", ylabel="token accuracy of edited prompts"
    )
    last = table.n_edits[table.fitted].max()
    axes.axvline(last, color="black", lw=0.7, ls=":")
    axes.text(last, 0.03, " not seen by the fit", fontsize=SMALL)
    counts = sorted(table.n_edits.unique())
    axes.set_xticks(counts, spaced(counts))
    axes.minorticks_off()
    end_labels(axes, ends, gap=0.1)
    worst = table[~table.fitted].groupby("update").error.agg(lambda errors: errors.abs().max())
    each = ", ".join(
        f"{name}{worst[update]:.2f}" for update, name in {"sgd": "", "rls": "rls by "}.items() if update in worst
    )
    axes.set_title(f"Fitted up to {last:,} edits, later off by {each}")
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower left", handletextpad=0)
    return figure


def irrelevant_overlap(table: pd.DataFrame, law: pd.DataFrame, threshold: float) -> Figure:
    """Best overlap of facts never edited as edits pile up, beside the law (n_edits, label, share)."""
    figure, axes = plt.subplots(figsize=(COLUMN, 2.2))
    axes.set_ylim(0, 1.03)
    blue = COLOURS["irrelevant"]
    axes.plot(table.n_edits, table.overlap, "o-", color=blue, ms=3)
    axes.plot(table.n_edits, table.overlap_99, "--", color=blue)
    ends = [(table.overlap.iloc[-1], "mean", blue), (table.overlap_99.iloc[-1], "99 % are below", blue)]
    for (label, rows), style in zip(law.groupby("label"), (":", "-."), strict=False):
        axes.plot(rows.n_edits, rows.share, color=COLOURS["theory"], ls=style)
        ends.append((rows.share.iloc[-1], label, COLOURS["theory"]))
    end_labels(axes, ends)
    axes.axhline(threshold, color="black", lw=1)
    axes.text(table.n_edits.min(), threshold, f" τ = {threshold:.2f}", va="bottom", fontsize=SMALL)
    stay = table.overlap_99.max() < threshold
    title = "99 % of unrelated prompts stay below τ" if stay else "Unrelated prompts come to reach τ"
    axes.set(xscale="log", xlabel="stored edits", ylabel="share with the best stored mask", title=title)
    return figure


def metric_bars(summary: pd.DataFrame, title: str) -> Figure:
    """Means with their intervals, one panel per protocol. summary: as `metrics.summary` gives it."""
    protocols = list(summary.protocol.unique())
    figure, panels = plt.subplots(1, len(protocols), figsize=(WIDE, 2.0), sharey=True, squeeze=False)
    for axes, protocol in zip(panels[0], protocols, strict=True):
        rows = summary[(summary.protocol == protocol) & summary.metric.isin(list(COLOURS))]
        error = [rows["mean"] - rows.low.clip(0), rows.high.clip(upper=1) - rows["mean"]]
        axes.bar(rows.metric, rows["mean"], yerr=error, color=[COLOURS[m] for m in rows.metric], capsize=2, width=0.7,
                 error_kw={"lw": 0.9})  # fmt: skip
        for place, row in enumerate(rows.itertuples()):
            axes.text(place, min(row.high, 1) + 0.02, f"{row.mean:.2f}", ha="center", fontsize=SMALL)
        axes.set_title(protocol, fontweight="normal")
        broken = [m.replace(" ", "\n").replace("alization", "al-\nization") for m in rows.metric]
        axes.set_xticks(range(len(rows)), broken)
    panels[0, 0].set(ylim=(0, 1.15), ylabel="mean, 95 % interval", yticks=[0, 0.25, 0.5, 0.75, 1])
    figure.suptitle(title, x=0.01, ha="left")
    return figure
