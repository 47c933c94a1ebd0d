"""Figures of notebook 10: what an edit takes, how routing grows, how many edits wider models keep. Knows frames."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.scale.frames import PAPER
from memoir.lab.experiments.scale.widths import METRICS
from memoir.metrics import TEACHER_FORCED
from memoir.models import registry
from memoir.plots import COLOURS, METHODS, SMALL, WIDE, curve

MARKS = {
    ("estimate", "A100 80 GB"): ("D", "none", COLOURS["theory"], "estimate, A100"),
    ("estimate", "H100 SXM"): ("D", COLOURS["theory"], COLOURS["theory"], "estimate, H100"),
    ("printed", "A100 80 GB"): ("s", COLOURS["irrelevant"], COLOURS["irrelevant"], "the paper, A100"),
    ("measured", "NVIDIA H200"): ("o", METHODS["memoir"], METHODS["memoir"], "measured, H200"),
    ("measured", "a CPU core"): ("o", "none", METHODS["memoir"], "measured, one CPU core"),
}


def seconds(table: pd.DataFrame) -> Figure:
    """Seconds an edit, a line per model and a mark per machine. table: as `frames.seconds`."""
    figure, axes = plt.subplots(figsize=(WIDE, 0.25 * table.model.nunique() + 1.1))
    for (kind, machine), (marker, face, edge, label) in MARKS.items():
        rows = table[(table.kind == kind) & (table.on == machine)]
        axes.plot(rows.seconds, rows.model, marker, ls="", mfc=face, mec=edge, label=label, ms=5)
    axes.set(xscale="log", xlabel="seconds an edit")
    axes.grid(axis="x", lw=0.4)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL)
    measured = table[(table.kind == "measured") & (table.model == PAPER)].seconds
    printed = table[table.kind == "printed"].seconds.iloc[0]
    figure.suptitle(
        f"LLaMA-3's shape: {measured.max():.1f} s an edit on an H200, {printed:.1f} s in the paper (A100)",
        x=0.01, ha="left",
    )  # fmt: skip
    return figure


def growth(speed: pd.DataFrame, errors: pd.DataFrame) -> Figure:
    """Milliseconds a query by the number of stored masks, and what an index misses. Both as `growth.py` gives them."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.3))
    shown = {"exact": METHODS["memoir"], "1/8 first": METHODS["rls"]}
    for search, colour in shown.items():
        rows = speed[speed.search == search]
        left.plot(rows.n, rows.ms, "o-", ms=3.5, color=colour, label=search)
    left.set(xscale="log", yscale="log", xlabel="stored edits", ylabel="ms a query")
    left.legend(fontsize=SMALL)
    right.bar(
        errors.search, errors.same, color=[shown.get(name, COLOURS["theory"]) for name in errors.search], width=0.6
    )
    right.set(ylim=(0, 1), ylabel="finds the best overlap", xlabel="what the index looks at first")
    last = speed[(speed.search == "exact") & (speed.n == speed.n.max())].iloc[0]
    figure.suptitle(
        f"The exact search takes {last.ms:.0f} ms a query for {last.n:,} edits; an index gains little",
        x=0.01, ha="left",
    )  # fmt: skip
    return figure


def methods(table: pd.DataFrame) -> Figure:
    """Each method on both models after as many edits, a panel for each metric. table: as `others.methods`."""
    order = table.groupby("method").average.max().sort_values().index
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 0.17 * len(order) + 1.1), sharey=True, sharex=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        for model, face in (("smollm2-135m", "white"), ("qwen2.5-1.5b", METHODS["memoir"])):
            rows = table[table.model == model].set_index("method")[metric].reindex(order)
            axes.plot(rows, range(len(order)), "o", mfc=face, mec=METHODS["memoir"], ls="", label=MODELS[model][1])
        axes.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1), xlabel="token accuracy")
        axes.set(yticks=range(len(order)), yticklabels=order)
        axes.grid(axis="y", lw=0.4)
        axes.set_title(metric, fontweight="normal")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=SMALL)
    best = table[table.model == "qwen2.5-1.5b"].set_index("method").average
    figure.suptitle(
        f"A hundred edits: on the 1.5B the best average is {best.max():.2f}, of {best.idxmax()}", x=0.01, ha="left"
    )
    return figure


MODELS = {  # marks and lines by model, the same in both figures
    "smollm2-135m": ("o-", "SmolLM2-135M"),
    "qwen2.5-0.5b": ("s--", "Qwen2.5-0.5B"),
    "qwen2.5-1.5b": ("^-.", "Qwen2.5-1.5B"),
}


def by_load(kept: pd.DataFrame, paper: pd.DataFrame, law: pd.DataFrame) -> Figure:
    """Teacher-forced reliability, generalization and locality against the load N / D: a line per model, a colour per
    update, and the paper's points. kept, law: `widths.kept`, `widths.from_the_law`; paper: metric, load, value."""
    figure, panels = plt.subplots(1, 3, figsize=(WIDE, 2.7), sharey=True, sharex=True)
    colours = {"the paper's update": METHODS["memoir"], "rls": METHODS["rls"]}
    shown = kept[kept.protocol == TEACHER_FORCED]
    for axes, metric in zip(panels, METRICS, strict=True):
        for (model, update, layer), rows in shown[shown.metric == metric].groupby(["model", "update", "layer"]):
            style, title = MODELS[model]
            label = f"{title}, layer {layer:.0f}, {update}"
            curve(axes, rows, "load", colours[update], style, ms=3, label=label)
        points = paper[(paper.metric == metric) & (paper.load > shown.load.min() / 2)]
        axes.plot(points.load, points.value, "D", color=COLOURS["paper"], ms=4, label="the paper, LLaMA-3-8B")
        axes.set(xscale="log", xlabel="load N / D", ylim=(0.4, 1.02))
        axes.set_title(metric, fontweight="normal")
    panels[0].set_ylabel("token accuracy,\n95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=SMALL)
    far = law[law["update"] == "the paper's update"].groupby("metric").difference.agg(lambda off: off.abs().max())
    figure.suptitle(
        f"Paper's update, equal load:\nthree models within {far.get('reliability', 0):.2f} in reliability, "
        f"{far.get('generalization', 0):.2f} in generalization", x=0.01, ha="left",
    )  # fmt: skip
    return figure


def by_layer(tables: list[pd.DataFrame]) -> Figure:
    """What prompts look like to each layer, two panels: the largest token's share of their energy, and the rephrasings
    that masks lead to their own prompt. tables: as `layers.kept`; the layer that is edited is marked."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.5))
    for table, colour in zip(tables, (COLOURS["irrelevant"], COLOURS["rephrasing"], COLOURS["other"]), strict=False):
        style, title = MODELS[table.model.iloc[0]]
        depth = (table.layer + 1) / len(table)
        here = table.layer == table.edited
        for axes, column in ((left, "largest"), (right, "found")):
            axes.plot(depth, table[column], style, ms=2.5, color=colour, label=title)
            axes.plot(depth[here], table[column][here], "o", ms=8, mfc="none", mec=colour)
            axes.set(ylim=(0, 1.03), xlabel="depth of the layer, 1 is the last")
    left.set_ylabel("largest token's share\nof a prompt's energy")
    right.set_ylabel("rephrasings found\nat 1 % of irrelevant")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=SMALL)
    figure.suptitle(
        "In some layers one token outweighs all others;\nthe default layers (circles) have none", x=0.01, ha="left"
    )
    return figure


def sweeps(table: pd.DataFrame, averages: pd.DataFrame) -> Figure:
    """Reliability and generalization against the depth of the edited layer, a line per model; the default is marked and
    the paper's depth dashed. table: as `sweeps.swept`; averages: as `sweeps.by_layer`."""
    figure, panels = plt.subplots(1, 2, figsize=(WIDE, 2.5), sharey=True)
    colours = dict(zip(MODELS, (COLOURS["irrelevant"], COLOURS["rephrasing"], COLOURS["other"]), strict=True))
    for axes, metric in zip(panels, METRICS, strict=False):
        for model, rows in table[table.metric == metric].groupby("model", sort=False):
            style, title = MODELS[model]
            rows = rows.drop(columns="threshold")  # each layer is asked at the τ that was calibrated for it
            curve(axes, rows, "depth", colours[model], style, ms=2.5, label=title)
            here = rows[rows.layer == registry.MODELS[model].settings.layer]
            axes.plot(here.depth, here["mean"], "o", ms=8, mfc="none", mec=colours[model], clip_on=False)
        axes.axvline(28 / 32, color=COLOURS["paper"], lw=1, ls="--")  # the paper's layer 27, counted from 0
        axes.set(ylim=(0, 1.03), xlabel="depth of the layer, 1 is the last")
        axes.set_title(metric, fontweight="normal")
    panels[0].set_ylabel("token accuracy,\n95 % interval")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=SMALL)
    near = [
        f"{(own >= 0.95 * own.max()).sum()} of {len(own)}" for _, own in averages.groupby("model", sort=False).average
    ]
    figure.suptitle(
        f"Layers within 5 % of the best, by size of model: {', '.join(near)};\n"
        "circles: the defaults, dashed: the paper's depth", x=0.01, ha="left",
    )  # fmt: skip
    return figure
