"""The figures of notebooks 05 and 06, each from a tidy frame that `frames.py` makes."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.long_targets import frames
from memoir.plots import COLOURS, METHODS, SMALL, WIDE

KINDS = {  # questions that no edit is about, and their colours
    "irrelevant": COLOURS["irrelevant"], "another subject": COLOURS["theory"],
    "same subject": COLOURS["same template"], "whole text": COLOURS["rephrasing"],
}  # fmt: skip
MODELS = {"llama-3-8b-instruct": "LLaMA-3-8B", "mistral-7b": "Mistral-7B", "llama-2-7b": "LLaMA-2-7B"}


def routed(best: pd.DataFrame, thresholds: dict[str, float]) -> Figure:
    """Share of questions whose best overlap reaches each τ, a panel per N. best: as `frames.overlaps` gives it.

    thresholds: marked, by the words beside them.
    """
    sizes = sorted(best.N.unique())
    figure, panels = plt.subplots(1, len(sizes), figsize=(WIDE, 2.4), sharey=True, squeeze=False)
    for axes, n in zip(panels[0], sizes, strict=True):
        for kind, colour in KINDS.items():
            shares = np.sort(best.overlap[(best.N == n) & (best.kind == kind)])
            if len(shares):
                steps = np.concatenate([[0.25], shares, [1.02]])
                left = 1 - np.concatenate([[0], np.arange(1, len(shares) + 1), [len(shares)]]) / len(shares)
                axes.step(steps, left, where="post", color=colour, label=kind)
        for place, (name, tau) in enumerate(thresholds.items()):
            axes.axvline(tau, color="black", lw=0.9, ls="-" if place == 0 else "--")
            axes.text(tau, 1.02, name, rotation=35, fontsize=SMALL, va="bottom")
        axes.set(xlim=(0.25, 1.02), ylim=(0, 1.02), xlabel=f"τ, with {n} stored prompts")
    panels[0, 0].set_ylabel("share of the questions\nthat memory would answer")
    handles = dict(zip(*panels[0, -1].get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    most = frames.routed(best[best.N == sizes[-1]], [*thresholds.values()][:1]).nlargest(1, "share").iloc[0]
    text = f"With {most.N} stored prompts τ = {most.threshold} lets in {most.share:.0%} of one kind: {most.kind}"
    figure.suptitle(text, x=0.01, ha="left")
    return figure


def perplexity_by_edits(ours: pd.DataFrame, paper: pd.DataFrame, before: Sequence[float] = ()) -> Figure:
    """Mean and median perplexity of the edited targets against the number of edits, beside the paper's models.

    ours: `frames.perplexities` with a column setting, a colour each; paper: columns model, n_edits, value;
    before: mean and median of the untouched model.
    """
    figure, axes = plt.subplots(figsize=(WIDE, 2.4))
    palette = [COLOURS["irrelevant"], METHODS["memoir"], METHODS["rls"]]
    for colour, (setting, rows) in zip(palette, ours.groupby("setting"), strict=False):
        rows = rows.sort_values("n_edits")
        axes.plot(rows.n_edits, rows["mean"], color=colour, marker="o", ms=4, label=f"mean, {setting}")
        axes.fill_between(rows.n_edits, rows.mean_low, rows.mean_high, color=colour, alpha=0.15, lw=0)
        axes.plot(rows.n_edits, rows["median"], color=colour, ls=":", marker="o", ms=3, label=f"median, {setting}")
    for style, (model, rows) in zip(("-", "--", "-."), paper.groupby("model"), strict=False):
        rows = rows.sort_values("n_edits")
        axes.plot(rows.n_edits, rows.value, color=COLOURS["paper"], ls=style, label=f"paper, {MODELS[model]}")
    for value, name in zip(before, ("mean", "median"), strict=False):
        axes.axhline(value, color="black", lw=0.8, ls="-" if name == "mean" else ":")
        axes.text(1, value, f" {name} before any edit", va="bottom", fontsize=SMALL)
    axes.set(xscale="log", yscale="log", xlabel="edits", ylabel="perplexity of the edited targets")
    ticks = [t for t in (1, 1.5, 2, 3, 5, 10, 20, 50, 100) if axes.get_ylim()[0] <= t <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xticks(
        sorted({*ours.n_edits, *paper.n_edits}), [f"{n:,}" for n in sorted({*ours.n_edits, *paper.n_edits})]
    )
    figure.legend(loc="outside right upper")
    end = ours[ours.n_edits == ours.n_edits.max()]
    each = ", ".join(f"{row['mean']:.1f} ({row.setting})" for _, row in end.iterrows())
    axes.set_title(f"Mean after {end.n_edits.iloc[0]:,} edits: {each}")
    return figure


def out_of_distribution(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Three measures of the same texts before and after edits, beside what the paper prints.

    ours: columns measure, when, mean, low, high; paper: columns method, n_edits, value.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.4), sharey=True, width_ratios=[4, 5])
    measures, whens = ["texts", "tokens", "arg-max"], list(ours.when.unique())
    shades = [COLOURS["theory"], COLOURS["rephrasing"], COLOURS["irrelevant"], COLOURS["other"]]
    for place, (when, colour) in enumerate(zip(whens, shades, strict=False)):
        rows = ours[ours.when == when].set_index("measure").reindex(measures)
        at = np.arange(len(measures)) + 0.8 * (place - (len(whens) - 1) / 2) / len(whens)
        error = [rows["mean"] - rows.low.clip(lower=0), rows.high.clip(upper=1) - rows["mean"]]
        left.bar(at, rows["mean"], width=0.75 / len(whens), yerr=error, capsize=2, color=colour, label=when)
        for x, value, high in zip(at, rows["mean"], rows.high.clip(upper=1), strict=True):
            left.text(x, max(value, high) + 0.02, f"{value:.2f}", ha="center", fontsize=SMALL, rotation=90)
    names = [
        "texts with mean\nloss < −log 0.8\n(WISE paper)",
        "tokens with\np > 0.8\n(WISE code)",
        "tokens that are\nthe arg-max\n",
    ]
    left.set_xticks(range(len(measures)), names, fontsize=SMALL)
    left.set(ylim=(0, 1.03), ylabel="share, 95 % interval")
    left.set_title("here, SmolLM2-135M", fontweight="normal")
    left.legend(loc="upper left")
    table = paper.pivot_table(index="method", columns="n_edits", values="value", sort=False)
    for place, n in enumerate(table.columns):
        at = np.arange(len(table)) + 0.4 * (place - (len(table.columns) - 1) / 2)
        right.bar(at, table[n], width=0.36, color=shades[place + 1], label=f"T = {n}")
        for x, value in zip(at, table[n], strict=True):
            right.text(x, value + 0.02, f"{value:.2f}", ha="center", fontsize=SMALL, rotation=90)
    right.set_xticks(range(len(table)), table.index, rotation=30, fontsize=SMALL)
    right.set_title('the paper, GPT-J-6B, "OOD Gen."', fontweight="normal")
    right.legend()
    values = [f"{value:.2f}" for value in ours[ours.when == whens[-1]].set_index("measure")["mean"].reindex(measures)]
    text = f"The same texts {whens[-1]}: {', '.join(values[:-1])} or {values[-1]}, by what is counted"
    figure.suptitle(text, x=0.01, ha="left")
    return figure
