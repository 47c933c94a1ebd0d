"""What the comparison contributes to the report: the figures and tables of notebook 09."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.evidence import files
from memoir.lab.experiments.comparison import costs, frames as comparison, plots as comparison_plots, practice
from memoir.plots import markdown


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, one for each data set that was edited."""
    results = comparison.results("full")
    for dataset in results.dataset.unique():
        yield f"09_baselines_{dataset}", comparison_plots.beside_paper(results, dataset, "SmolLM2-135M")


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name: the search, what each method costs, and a view of all methods after each number of edits."""
    if len(search := comparison.searched("full")):
        yield "09_baselines_search", search.round(3)
    found = files.read_result("full", comparison.EXPERIMENT, "costs")
    cost = pd.DataFrame(found["metrics"]) if found else None
    if cost is not None:
        yield "09_baselines_costs", costs.ratios(cost).round(2)
    results = comparison.results("full")
    for (dataset, n_edits), _ in results[results.failed.isna()].groupby(["dataset", "n_edits"]):
        view = comparison.overview(results, cost, dataset, n_edits)
        yield f"09_baselines_{dataset}_{n_edits}", view.round(3)
    yield "09_practice", practice.table().round(3)


def readme() -> Iterator[tuple[str, str]]:
    """What stands in the README, by the name of its markers."""
    table = practice.table().set_index("method")
    shown = table.map(lambda value: "–" if pd.isna(value) else f"{value:.2f}")
    shown["ms a query"] = ["–" if pd.isna(value) else f"{value:.0f}" for value in table["ms a query"]]
    yield "practice", markdown(shown.reset_index())
