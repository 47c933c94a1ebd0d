"""All methods side by side, from the finished streams of the plan; what each costs, `costs.py` measures.

The streams are run by `plan.run`: experiment `baselines`, with the settings that `baselines-search` found.
"""

import numpy as np
import pandas as pd

from memoir.baselines import METHODS
from memoir.lab.evidence import files, plan, published, table
from memoir.lab.evidence.results import finished
from memoir.metrics import AVERAGED, GENERATED, TEACHER_FORCED

EXPERIMENT, SEARCH = "baselines", "baselines-search"
PARTS = [*AVERAGED]


def results(profile: str) -> pd.DataFrame:
    """The rows of `lab.results` of the comparison: by data set, method, length, metric and protocol.

    Without the paper's average, which `averages` takes; column failed has a sentence where a method broke down.
    """
    rows = table.results(f"{EXPERIMENT}/*", profile=profile)
    return rows[rows.metric != "average"].reset_index(drop=True)


def searched(profile: str, experiment: str = SEARCH) -> pd.DataFrame:
    """A search: a row for each candidate that is finished, in the order of the plan.

    Columns method, changed (from the default settings), the teacher-forced metrics, average, s/edit, chosen, failed.
    """
    rows = []
    for planned in plan.planned(profile, f"{experiment}/").values():
        found = files.read_result(profile, experiment, planned.stream.run)
        if found is None:
            continue
        changed = ", ".join(f"{name} = {value}" for name, value in planned.editor.items()) or "nothing"
        row = {"method": METHODS[planned.method].title, "changed": changed, "average": plan.average(found)}
        row |= {m["metric"]: m["mean"] for m in found["metrics"] if m["protocol"] == TEACHER_FORCED}
        if failure := found["parameters"].get("failed"):
            row["failed"] = f"after {failure['n_edits']} edits"
        else:
            row["s/edit"] = found["provenance"]["edit_seconds"] / planned.stream.at[-1]
        rows.append(row)
    found = pd.DataFrame(rows, columns=["method", "changed", *PARTS, "average", "s/edit", "chosen", "failed"])
    best = found.groupby("method", sort=False).average.idxmax()
    return found.assign(chosen=found.index.isin(best))


def endings(profile: str) -> pd.DataFrame:
    """How the training of single edits ends: columns dataset, method, steps, at the bound, last loss.

    Means over the edits: of steps, of whether the bound on steps (n_iter) ended them, of the last loss in nats.
    """
    rows = []
    for planned, result, tables in finished(profile, EXPERIMENT):
        if planned.singles:
            edits, most = tables["edits"], result["parameters"]["editor"].get("n_iter")
            row = {"dataset": planned.stream.dataset, "method": METHODS[planned.method].title}
            row |= {"steps": edits.steps.mean(), "last loss": edits.last_loss.mean()}
            if most:  # what stores a sentence takes no steps
                row["at the bound"] = (edits.steps >= most).mean()
            rows.append(row)
    return pd.DataFrame(rows, columns=["dataset", "method", "steps", "at the bound", "last loss"])


def not_run(profile: str, experiment: str) -> list[str]:
    """Names of the experiment's streams that have not ended."""
    planned = plan.planned(profile, f"{experiment}/")
    return [name for name, one in planned.items() if not one.result.exists()]


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
    rows = paper_table(model)
    return rows.assign(method=rows.published.map(named))[["method", "n_edits", "average"]]


def paper_table(model: str) -> pd.DataFrame:
    """The paper's ZsRE numbers of one model: published, n_edits, reliability, generalization, locality, average."""
    rows = pd.read_csv(published.RESULTS)
    rows = rows[rows["item"].isin(["Table 1", "Table 9"]) & (rows.dataset == "zsre") & (rows.model == model)]
    wide = rows.pivot_table(index=["method", "n_edits"], columns="metric", values="value", sort=False).reset_index()
    return wide.rename(columns={"method": "published"}).rename_axis(columns=None)[
        ["published", "n_edits", *PARTS, "average"]
    ]


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


def _means(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    rows = rows[rows.metric.notna()]
    return {(row.metric, row.protocol): row.mean_ for row in rows.rename(columns={"mean": "mean_"}).itertuples()}


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
