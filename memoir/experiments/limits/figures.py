"""What the limits contribute to the report: the figures and tables of notebook 11."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.experiments.limits import frames as limits, plots as limits_plots

OPENFACTS = {
    "rephrasing": "rephrasing", "chinese": "in Chinese", "negated": "negated", "near neighbour": "near\nneighbour",
    "irrelevant": "irrelevant",
}  # fmt: skip
KNOWEDIT = {
    "subject aliasing": "subject\naliasing", "reasoning": "reasoning",
    "logical generalization": "logical\ngeneralization",
    "forgetfulness": "forgetfulness", "relation specificity": "relation\nspecificity",
}  # fmt: skip
SHOWN = {"openfacts": ("OpenFacts", OPENFACTS), "knowedit": ("KnowEdit", KNOWEDIT)}


def around(found: pd.DataFrame, dataset: str) -> Figure:
    """How often the edited target is said after the most edits of a data set. found: as `frames.answers`."""
    name, kinds = SHOWN[dataset]
    rows = found[found.dataset == dataset]
    last = rows[rows.n_edits == rows.n_edits.max()]
    title = f"How often the edited target is said, after {last.n_edits.max()} edits of {name}"
    return limits_plots.bars(last, kinds, "target", title, "target_before")


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the streams that have ended."""
    found = limits.answers("full")
    for dataset in SHOWN:
        if (found.dataset == dataset).any():
            yield f"11_{dataset}", around(found, dataset)
    if len(table := limits.kept("minds")):
        yield "11_minds", limits_plots.minds(table)
    if len(table := limits.kept("lengths")):
        yield "11_lengths", limits_plots.lengths(table)


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended."""
    if len(found := limits.answers("full")):
        yield "11_around", found.round(3)
        yield "11_portability", limits.portability(found).round(3)
    for name in ("minds", "lengths"):
        if len(table := limits.kept(name)):
            yield f"11_{name}", table.round(3)
