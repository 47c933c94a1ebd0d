"""The 1.5B beside the small model on what is not MEMOIR and not ZsRE: other methods on both, other records on both.

Frames from the streams of `scale-baselines`, `scale-baselines-search` and `scale-other`, and from those of the small
model that edit the same records (`baselines`, `limits`, `hallucination`). Knows results, nothing of models.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from memoir.baselines import METHODS
from memoir.lab.evidence import plan
from memoir.lab.evidence.results import finished
from memoir.lab.experiments.comparison import frames as comparison
from memoir.lab.experiments.long_targets.frames import perplexities
from memoir.lab.experiments.scale.widths import METRICS, SMALL, UPDATES, means_at
from memoir.metrics import GENERATED
from memoir.models.registry import WIDTH

COMPARED, SEARCH, RECORDS = "scale-baselines", "scale-baselines-search", "scale-other"
SMALL_RECORDS = {
    "limits": ["counterfact-paper", "counterfact-rls"], "hallucination": ["all-600-stop-0.1", "all-600-rls"]
}  # fmt: skip


def methods(n_edits: int = 100) -> pd.DataFrame:
    """The methods that ran on the larger model, on both models after as many edits of the same records of ZsRE, made
    one after the other: a row for each method and model.

    Columns method (MEMOIR with its update), model, the three metrics, teacher-forced, average (their mean) and exact
    match: the share of edited prompts whose generated answer is the whole target. The small model's have no rls.
    """
    rows = []
    for experiment in (COMPARED, "baselines"):
        for planned, result, _ in finished("full", experiment):
            if planned.stream.dataset == "zsre" and not planned.singles and n_edits in planned.stream.at:
                rows.append({"method": _title(planned), "model": planned.model} | _means(result, n_edits))
    table = pd.DataFrame(rows, columns=["method", "model", *METRICS, "average", "exact match"])
    return table[table.method.isin(table.method[table.model != SMALL])].reset_index(drop=True)


def _title(planned: plan.Planned) -> str:
    title = METHODS[planned.method].title
    return title + ", rls" if planned.editor.get("update") == "rls" else title


def _means(result: dict, n_edits: int) -> dict[str, float]:
    means, exact = means_at(result, n_edits), means_at(result, n_edits, GENERATED)["reliability"]
    return means | {"average": float(np.mean(list(means.values()))), "exact match": exact}


def searched() -> pd.DataFrame:
    """What was tried of each baseline on the larger model: `comparison.frames.searched` of that search."""
    return comparison.searched("full", SEARCH).drop(columns="failed")


def records() -> pd.DataFrame:
    """CounterFact and SelfCheckGPT on both models: a row for each data set, model, update and length.

    Columns dataset, model, update, n_edits, load (N / D), the three metrics, teacher-forced, exact match, and of
    SelfCheckGPT, whose records have no rephrasings, the perplexity of the edited targets: its mean and median.
    """
    rows = []
    for planned, result, questions in _both():
        about = {"dataset": planned.stream.dataset, "model": planned.model}
        about |= {"update": UPDATES[result["parameters"]["editor"].get("update", "sgd")]}
        of = perplexities(questions).set_index("n_edits") if about["dataset"] == "selfcheckgpt" else pd.DataFrame()
        for n_edits in planned.stream.at:
            row = about | {"n_edits": n_edits, "load": n_edits / WIDTH[planned.model]} | _means(result, n_edits)
            if len(of):
                row |= {"perplexity": of["mean"][n_edits], "median": of["median"][n_edits]}
            rows.append(row)
    columns = ["dataset", "model", "update", "n_edits", "load", *METRICS, "exact match", "perplexity", "median"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["dataset", "model", "update", "n_edits"], ignore_index=True)


def _both() -> Iterator[tuple[plan.Planned, dict, pd.DataFrame]]:
    """The streams on the larger model, then those on the small one that edit the same records."""
    for planned, result, tables in finished("full", RECORDS):
        yield planned, result, tables["questions"]
    for experiment, runs in SMALL_RECORDS.items():
        for planned, result, tables in finished("full", experiment):
            if planned.stream.run in runs:
                yield planned, result, tables["questions"]
