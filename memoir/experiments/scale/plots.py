"""Figures of notebook 10: what an edit takes, and how routing grows. Knows frames."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from memoir.experiments.scale.frames import PAPER
from memoir.plots import COLOURS, METHODS, SMALL, WIDE

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
