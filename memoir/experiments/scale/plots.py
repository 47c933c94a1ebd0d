"""Figures of notebook 10: what an edit takes, and how routing grows. Knows frames."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from memoir.plots import COLOURS, METHODS, SMALL, WIDE

KINDS = {
    "estimate": ("D", COLOURS["theory"]),
    "measured": ("o", METHODS["memoir"]),
    "printed": ("s", COLOURS["irrelevant"]),
}
LABELS = {
    "estimate": "estimate: 40 % of the data sheet's rate", "measured": "measured here", "printed": "the paper's figure",
}  # fmt: skip


def seconds(table: pd.DataFrame) -> Figure:
    """Seconds an edit, a line per model and machine. table: as `frames.seconds`."""
    table = table.assign(line=table.model + "\n" + table.on)
    figure, axes = plt.subplots(figsize=(WIDE, 0.32 * table.line.nunique() + 0.9))
    for kind, rows in table.groupby("kind"):
        marker, colour = KINDS[kind]
        axes.plot(rows.seconds, rows.line.str.replace("\n", ", "), marker, color=colour, label=LABELS[kind], ms=5)
    axes.set(xscale="log", xlabel="seconds an edit")
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.grid(axis="x", lw=0.4)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL)
    axes.set_title("An edit at the paper's size takes under a second on an H200")
    return figure


def growth(speed: pd.DataFrame) -> Figure:
    """Milliseconds a query and memory by the number of stored masks. speed: as `growth.speed`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.4), sharex=True)
    for (search, rows), colour in zip(
        speed.groupby("search", sort=False), (METHODS["memoir"], *plt.rcParams["axes.prop_cycle"].by_key()["color"]),
        strict=False,
    ):  # fmt: skip
        left.plot(rows.n, rows.ms, "o-", ms=3.5, color=colour, label=search)
        right.plot(rows.n, rows.bytes / 1e6, "o-", ms=3.5, color=colour)
    left.set(xscale="log", yscale="log", xlabel="stored edits", ylabel="ms a query")
    right.set(yscale="log", xlabel="stored edits", ylabel="MB of masks")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=SMALL)
    last = speed[(speed.search == "exact") & (speed.n == speed.n.max())].iloc[0]
    figure.suptitle(
        f"Routing grows along a line: {last.ms:.0f} ms a query for {last.n:,} stored edits", x=0.01, ha="left"
    )
    return figure
