"""What the limits contribute to the report: the figures and tables of notebook 11."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.limits import frames as limits, plots as limits_plots

OPENFACTS = {
    "rephrasing": "rephrasing", "chinese": "in Chinese", "negated": "negated", "near neighbour": "near\nneighbour",
    "irrelevant": "irrelevant",
}  # fmt: skip
KNOWEDIT = {
    "subject aliasing": "subject\naliasing", "reasoning": "reasoning",
    "logical generalization": "logical\ngeneralization",
    "forgetfulness": "forgetfulness", "relation specificity": "relation\nspecificity",
}  # fmt: skip
LANGUAGES = {
    "edited prompt": "the edited\nquestion", "rephrasing": "reworded", "german": "in German", "french": "in French",
    "spanish": "in Spanish", "chinese": "in Chinese", "irrelevant": "irrelevant",
}  # fmt: skip
SAID = "How often the edited target is said, after {n} edits of {name}"
ABROAD = "How often {n} English edits answer other languages"
# by data set: its name, the kinds that are shown, the measure, its title, the same measure of the untouched model
SHOWN = {
    "openfacts": ("OpenFacts", OPENFACTS, "target", SAID, "target_before"),
    "knowedit": ("KnowEdit", KNOWEDIT, "target", SAID, "target_before"),
    "openfacts-languages": ("OpenFacts", LANGUAGES, "routed", ABROAD, None),
}


def around(found: pd.DataFrame, dataset: str) -> Figure:
    """The questions around the most edits of one of `SHOWN`'s data sets. found: as `frames.answers`."""
    name, kinds, measure, title, before = SHOWN[dataset]
    rows = found[found.dataset == dataset]
    last = rows[rows.n_edits == rows.n_edits.max()]
    return limits_plots.bars(last, kinds, measure, title.format(n=last.n_edits.max(), name=name), before)


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the streams that have ended."""
    found = limits.answers("full")
    for dataset in SHOWN:
        if (found.dataset == dataset).any():
            yield f"11_{dataset.removeprefix('openfacts-')}", around(found, dataset)
    if len(table := limits.kept("minds")):
        yield "11_minds", limits_plots.minds(table)
    if len(table := limits.kept("lengths")):
        yield "11_lengths", limits_plots.lengths(table)
    if len(table := limits.kept("hops")):
        yield "11_hops", limits_plots.hops(table)
    if len(table := limits.kept("many")):
        yield "11_many", limits_plots.stored(table)


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended."""
    if len(found := limits.answers("full")):
        yield "11_around", found.round(3)
        yield "11_portability", limits.portability(found).round(3)
    if len(table := limits.ability("full")):
        yield "11_ability", table.round(3)
    for name in limits.MEASURED:
        if len(table := limits.kept(name)):
            yield f"11_{name}", table.round(3)
