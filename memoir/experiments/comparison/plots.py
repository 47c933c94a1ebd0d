"""The comparison's figure and tables, from tidy rows alone: no model."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir import plots
from memoir.baselines import METHODS
from memoir.evidence import published, runs
from memoir.experiments.comparison import frames as comparison
from memoir.experiments.comparison.frames import PARTS
from memoir.metrics import GENERATED, TEACHER_FORCED

# a line style for each kind: what writes the model's weights, what answers beside them, what only tells the prompt
KINDS = {"writes weights": "--", "beside the weights": "-", "tells the prompt": ":"}
MARKERS = "osD^vP"


def styles() -> dict[str, dict]:
    """Colour, line and marker of each method, the same in every figure; MEMOIR in black."""
    found = {}
    for i, (name, method) in enumerate(METHODS.items()):
        found[name] = dict(color=plots.METHODS[name], linestyle=KINDS[kind_of(name)], marker=MARKERS[i % 6])
        found[name] |= dict(linewidth=1.3, label=method.title)
    return found | {"memoir": found["memoir"] | dict(linewidth=2.2)}


def kind_of(name: str) -> str:
    """Which of `KINDS` a method is."""
    if name.startswith("in-context"):
        return "tells the prompt"
    return "beside the weights" if METHODS[name].untouched else "writes weights"


def dataset_title(dataset: str) -> str:
    """A data set's name for readers."""
    return {"zsre": "ZsRE", "openfacts": "OpenFacts"}.get(dataset, dataset)


def averages(results: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Columns method, n_edits, average: the mean of reliability, generalization and locality, teacher-forced.

    A run that failed is a point of average 0 at the edit that it did not reach.
    """
    here = results[results.dataset == dataset]
    forced = here[(here.protocol == TEACHER_FORCED) & here.metric.isin(PARTS)]
    found = forced.groupby(["method", "n_edits"], sort=False)["mean"].agg(["mean", "count"]).reset_index()
    found = found[found["count"] == 3].rename(columns={"mean": "average"}).drop(columns="count")
    failed = here[here.failed.notna()][["method", "n_edits"]].assign(average=0.0)
    failed["n_edits"] = failed.n_edits + 1
    return pd.concat([found, failed], ignore_index=True).sort_values(["method", "n_edits"])


def paper_averages(model: str = "llama-3-8b-instruct") -> pd.DataFrame:
    """The same columns from the paper's Table 1 (Table 9 for LLaMA-2); the method is named as here."""
    named = {method.published: name for name, method in METHODS.items() if method.published}
    table = paper_table(model)
    return table.assign(method=table.published.map(named))[["method", "n_edits", "average"]]


def paper_table(model: str) -> pd.DataFrame:
    """The paper's ZsRE numbers of one model: published, n_edits, reliability, generalization, locality, average."""
    table = pd.read_csv(published.RESULTS)
    table = table[table["item"].isin(["Table 1", "Table 9"]) & (table.dataset == "zsre") & (table.model == model)]
    wide = table.pivot_table(index=["method", "n_edits"], columns="metric", values="value", sort=False).reset_index()
    return wide.rename(columns={"method": "published"}).rename_axis(columns=None)[
        ["published", "n_edits", *PARTS, "average"]
    ]


def average_figure(panels: dict[str, pd.DataFrame]) -> Figure:
    """Average against the number of edits, a panel per title. Each table: columns method, n_edits, average."""
    figure, axes = plt.subplots(1, len(panels), figsize=(plots.WIDE, 2.8), sharey=True, squeeze=False)
    how, seen = styles(), {}
    for ax, (title, table) in zip(axes[0], panels.items(), strict=True):
        for name in [name for name in METHODS if name in set(table.method)]:
            line = table[table.method == name]
            (seen[name],) = ax.plot(line.n_edits, line.average, markersize=4, clip_on=False, **how[name])
        lengths = sorted(set(table.n_edits))
        ax.set(xscale="log", xlabel="edits in a row", ylim=(0, 1.02))
        ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
        ax.minorticks_off()
        ax.set_title(title, fontweight="normal")
    axes[0, 0].set_ylabel("mean of reliability,\ngeneralization and locality")
    handles = [seen[name] for name in METHODS if name in seen]
    figure.legend(handles=handles, loc="outside right upper", handlelength=3.2)
    return figure


def beside_paper(results: pd.DataFrame, dataset: str, model: str) -> Figure:
    """`average_figure` of the results on a data set, and of the paper's Table 1."""
    here = f"{dataset_title(dataset)}, {model}"
    return average_figure({here: averages(results, dataset), "ZsRE, LLaMA-3-8B (paper)": paper_averages()})


def overview(results: pd.DataFrame, costs: pd.DataFrame | None, dataset: str, n_edits: int) -> pd.DataFrame:
    """A row per method: what it does after n_edits of a data set, and what it costs. Missing is missing.

    Only OpenFacts has near neighbours: they are its own, after as many edits or, where it has fewer, after the most.
    """
    here = results[(results.dataset == dataset) & (results.n_edits == n_edits)]
    beside = results[(results.dataset == "openfacts") & (results.n_edits <= n_edits)]
    beside = beside[beside.n_edits == beside.groupby("method").n_edits.transform("max")]
    failures = results[(results.dataset == dataset) & results.failed.notna()].set_index("method")
    rows = []
    for name, method in METHODS.items():
        of, near = _means(here[here.method == name]), _means(beside[beside.method == name])
        row = {"method": method.title} | {part: of.get((part, TEACHER_FORCED), np.nan) for part in PARTS}
        row["exact match"] = of.get(("reliability", GENERATED), np.nan)
        row["near neighbour"] = near.get(("neighbour locality", TEACHER_FORCED), np.nan)
        if costs is not None and name in set(costs.method):
            cost = costs.set_index("method").loc[name]
            row |= {"s/edit": cost.edit_seconds, "s/query": cost.query_seconds}
            row |= {"extra MB": cost.extra_bytes / 1e6, "trained numbers": int(cost.trained)}
        row |= {"can undo": _yes(method.undo), "base untouched": _yes(method.untouched)}
        row["failed"] = f"after {failures.n_edits[name]:.0f} edits" if name in failures.index else ""
        if of or name in failures.index:
            rows.append(row)
    columns = ["method", *PARTS, "exact match", "near neighbour", "s/edit", "s/query", "extra MB", "trained numbers"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "can undo", "base untouched", "failed"])


def ratios(costs: pd.DataFrame) -> pd.DataFrame:
    """Cost as ratios to MEMOIR in the same round: a row per method, mean, least and most over the rounds."""
    names = [f"{what}{part}" for what in ("edit", "query") for part in ("_ratio", "_least", "_most")]
    table = costs.reindex(columns=["method", *names])  # without MEMOIR there is nothing to divide by
    table["method"] = [METHODS[name].title for name in costs.method]
    return table.rename(columns=lambda name: name.removesuffix("_ratio").replace("_", ", "))


def known_behaviour(results: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """What methods are known for, and whether it is seen here: columns method, known, measured, seen.

    Near-perfect is a reliability of at least 0.9 for single edits; lost, less than half of that at the last length;
    not generalizing, less than half as much generalization as reliability.
    """
    forced = results[(results.dataset == dataset) & (results.protocol == TEACHER_FORCED)]
    of = forced.set_index(["method", "n_edits", "metric"])["mean"].sort_index()
    rows = []
    for name in [name for name in METHODS if (name, 1, "reliability") in of.index]:
        alone, last = of[name, 1, "reliability"], max(n for method, n, _ in of.index if method == name)
        kept, general = of[name, last, "reliability"], of[name, last, "generalization"]
        rows.append((name, "one edit is learnt", f"{alone:.2f}", alone >= 0.9))
        if name in ("ft", "ft-l", "rome"):
            rows.append((name, "loses its edits", f"{kept:.2f} after {last}", kept < alone / 2))
        if name == "grace":
            rows.append((name, "does not generalize", f"{general:.2f} against {kept:.2f}", general < kept / 2))
    table = pd.DataFrame(rows, columns=["method", "known", "measured", "seen"])
    return table.assign(method=[METHODS[name].title for name in table.method], seen=table.seen.map(_yes))


def rebuild() -> list[Path]:
    """The figure and the tables whose results are committed at the size "full"; returns the files written."""
    from memoir.report.figures import save_table

    results, costs = comparison.results("full"), runs.read_result("full", comparison.EXPERIMENT, "costs")
    costs, search, written = pd.DataFrame(costs["metrics"]) if costs else None, comparison.searched("full"), []
    if len(search):
        written += save_table(search.round(3), "09_baselines_search")
    if costs is not None:
        written += save_table(ratios(costs).round(2), "09_baselines_costs")
    for dataset in results.dataset.unique():
        figure = beside_paper(results, dataset, "SmolLM2-135M")
        written += plots.save(figure, f"09_baselines_{dataset}")
        plt.close(figure)
        for n_edits in sorted(results[(results.dataset == dataset) & results.failed.isna()].n_edits.unique()):
            view = overview(results, costs, dataset, n_edits)
            written += save_table(view.round(3), f"09_baselines_{dataset}_{n_edits}")
    return written


def _means(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    rows = rows[rows.metric.notna()]
    return {(row.metric, row.protocol): row.mean_ for row in rows.rename(columns={"mean": "mean_"}).itertuples()}


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
