"""One table of all results: a row for each stream, length, metric and protocol. Figures are queries on it."""

from fnmatch import fnmatchcase
from functools import lru_cache

import pandas as pd
from scipy.special import stdtrit

from memoir.lab.evidence import files, plan
from memoir.lab.evidence.results import stamp
from memoir.models.registry import WIDTH

# what streams differ by, then what was measured
ABOUT = {
    "experiment": str, "stream": str, "model": str, "dataset": str, "method": str, "update": object, "layer": float,
    "k": float, "D": int, "threshold": float, "router": object, "seed": float, "first": int, "order": int, "batch": int,
    "singles": bool, "behaviour": str,
}  # fmt: skip
FALSE_UNTIL = 1009  # of the data set zsre: so many records of the edit file, then training rows with true answers
MEASURED = {
    "n_edits": int, "load": float, "targets": str, "metric": object, "protocol": object, "mean": float, "low": float,
    "high": float, "n": float, "failed": object,
}  # fmt: skip
COLUMNS = ABOUT | MEASURED


def results(*names: str, profile: str = "full") -> pd.DataFrame:
    """The means of every finished stream whose name, experiment/run, is one of these; a name may have a *.

    Columns `ABOUT`: what the stream is of, with the τ that it was run at as threshold and the numbers of the rules that
    made it as behaviour, missing where a method has no such thing; and `MEASURED`: load is N / D, targets what the
    edits write ("false", "true" or "false and true" answers), a mean has its 95 % interval (`metrics.interval`) over n
    records. "average" is the paper's, of reliability, generalization and locality.
    A stream that broke down numerically has one more row, after the edits that it made, with the reason as failed.
    """
    experiments = {planned.stream.experiment for name, planned in plan.planned(profile).items() if _is(name, names)}
    tables = [_of(profile, experiment, stamp(profile, experiment)) for experiment in sorted(experiments)]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    whole = pd.concat(tables, ignore_index=True)
    called = whole.experiment + "/" + whole.stream
    return whole[called.map(lambda name: _is(name, names)).astype(bool)].reset_index(drop=True)


def over_orders(rows: pd.DataFrame) -> pd.DataFrame:
    """`results` of the same records in several orders, each with a permutation of its own, as one row for each length.

    The mean is that of the orders' means; its interval, Student's over the orders, holds what records, order and
    permutation do; orders: how many there are. With one order there is no interval.
    """
    by = [name for name in COLUMNS if name not in ("stream", "order", "seed", "mean", "low", "high", "n", "failed")]
    groups = rows.groupby(by, sort=False, dropna=False)["mean"]
    found = groups.agg(mean="mean", error="sem", orders="count").reset_index()
    half = stdtrit((found.orders - 1).clip(1), 0.975) * found.error
    return found.assign(low=found["mean"] - half, high=found["mean"] + half).drop(columns="error")


def _is(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@lru_cache(maxsize=128)
def _of(profile: str, experiment: str, _stamp: tuple) -> pd.DataFrame:
    rows = []
    for planned in plan.planned(profile, f"{experiment}/").values():
        result = files.read_result(profile, experiment, planned.stream.run)
        if result is None or not (planned.ended or "failed" in result["parameters"]):
            continue
        about = _about(planned, result["parameters"])
        rows += [about | row | _of_length(planned, row["n_edits"]) for row in result["metrics"]]
        if failed := result["parameters"].get("failed"):
            n = failed["n_edits"]
            rows.append(about | _of_length(planned, n) | {"n_edits": n, "failed": failed["sentence"]})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _of_length(planned: plan.Planned, n: int) -> dict:
    first = planned.stream.first
    last = first + (planned.stream.at[-1] if planned.singles else n)
    targets = "true" if planned.stream.dataset in ("zsre-true", "zsre-train") else "false"
    if planned.stream.dataset == "zsre" and last > FALSE_UNTIL:
        targets = "true" if first >= FALSE_UNTIL else "false and true"
    return {"load": n / WIDTH[planned.model], "targets": targets}


def _about(planned: plan.Planned, parameters: dict) -> dict:
    stream, how = planned.stream, parameters.get("editor", {})
    rules = parameters.get("unit", {}).get("behaviour", {})
    return {
        "experiment": stream.experiment, "stream": stream.run, "model": planned.model, "dataset": stream.dataset,
        "method": planned.method, "update": how.get("update", "sgd") if planned.method == "memoir" else None,
        "layer": how.get("layer"), "k": how.get("k"), "D": WIDTH[planned.model], "threshold": how.get("threshold"),
        "router": how.get("router", "masks") if planned.method == "memoir" else None, "seed": how.get("seed"),
        "first": stream.first, "order": stream.order, "batch": stream.batch, "singles": planned.singles,
        "behaviour": ", ".join(f"{rule} {number}" for rule, number in sorted(rules.items())),
    }  # fmt: skip
