"""What the data sets contribute to the report: the figures of notebook 15."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.evidence import files, results
from memoir.lab.experiments.data import plots as data_plots


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the result of the full run."""
    result = files.read_result("full", "data", "known")
    lengths = results.read("full", "data/known-lengths.parquet")
    if result is None or lengths is None:
        return
    model, asked = result["parameters"]["model"], result["parameters"]["n_asked"]
    yield "15_lengths", data_plots.lengths(lengths, f"Length of prompts and targets in tokens of {model}")
    relations = pd.DataFrame(result["metrics"]["relations"])
    title = f"What {model} answers rightly before any edit ({relations.n.sum():,} facts)"
    yield "15_relations", data_plots.by_relation(relations, title)
    title = f"What {model} says before any edit (first {asked} of each set)"
    yield "15_sets", data_plots.by_set(pd.DataFrame(result["metrics"]["sets"]), title)
