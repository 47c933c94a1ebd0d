"""What the streams of `wild` contribute to the report: the figures and tables of notebook 13."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.wild import frames as wild, plots as wild_plots


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the streams that have ended."""
    found = wild.answers("full")
    for n, rows in found.groupby("n_edits"):
        for kind in ("prompt", "rephrasing"):
            title = f"Said, word for word, after {n} edits: {kind}s"
            yield f"13_said_{n}_{kind}s", wild_plots.by_form(rows, kind, "exact", title)
        yield f"13_found_{n}", wild_plots.by_form(rows, "prompt", "found", f"Found after {n} edits: the share that is "
                                                  "answered by its own edit")  # fmt: skip
    if len(found):
        for metric in ("reliability", "generalization"):
            title = f"{metric.capitalize()}: teacher-forced, and what is said"
            yield f"13_published_{metric}", wild_plots.beside_published(wild.beside_published("full"), metric, title)
    if len(parts := wild.parts("full")):
        yield "13_parts", wild_plots.parts(parts, "QAEdit, 107 edits: exact match as parts are added")


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended."""
    if len(found := wild.answers("full")):
        yield "13_answers", found.round(3)
        yield "13_by_age", wild.by_age("full").round(3)
        yield "13_unlearnt", wild.unlearnt("full").round(4)
