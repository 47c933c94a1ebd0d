"""One table of all results: a row for each stream, length, metric and protocol. Figures are queries on it."""

from fnmatch import fnmatchcase
from functools import lru_cache

import pandas as pd

from memoir.lab.evidence import files, plan
from memoir.lab.evidence.results import stamp
from memoir.models.registry import WIDTH

# what streams differ by, then what was measured
ABOUT = {
    "experiment": str, "stream": str, "model": str, "dataset": str, "method": str, "update": object, "layer": float,
    "k": float, "D": int, "threshold": float, "router": object, "seed": float, "first": int, "order": int, "batch": int,
    "singles": bool, "behaviour": str,
}  # fmt: skip
MEASURED = {
    "n_edits": int, "load": float, "metric": object, "protocol": object, "mean": float, "low": float, "high": float,
    "n": float, "failed": object,
}  # fmt: skip
COLUMNS = ABOUT | MEASURED


def results(*names: str, profile: str = "full") -> pd.DataFrame:
    """The means of every finished stream whose name, experiment/run, is one of these; a name may have a *.

    Columns `ABOUT`: what the stream is of, with the τ that it was run at as threshold and the numbers of the rules that
    made it as behaviour, missing where a method has no such thing; and `MEASURED`: load is N / D, a mean has its 95 %
    interval (`metrics.interval`) over n records. "average" is the paper's, of reliability, generalization and locality.
    A stream that broke down numerically has one more row, after the edits that it made, with the reason as failed.
    """
    experiments = {planned.stream.experiment for name, planned in plan.planned(profile).items() if _is(name, names)}
    tables = [_of(profile, experiment, stamp(profile, experiment)) for experiment in sorted(experiments)]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    whole = pd.concat(tables, ignore_index=True)
    wanted = [_is(name, names) for name in whole.experiment + "/" + whole.stream]
    return whole[wanted].reset_index(drop=True)


def means(*names: str, profile: str = "full", protocol: str = "teacher-forced") -> pd.DataFrame:
    """`results` of one protocol with a column for each metric's mean: a row for each stream and length."""
    rows = results(*names, profile=profile).query("protocol == @protocol")
    about = [name for name in (*ABOUT, "n_edits", "load") if name in rows]
    wide = rows.pivot_table(index=about, columns="metric", values="mean", sort=False, dropna=False, observed=True)
    return wide.dropna(how="all").reset_index().rename_axis(columns=None)


def _is(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@lru_cache(maxsize=128)
def _of(profile: str, experiment: str, _stamp: tuple) -> pd.DataFrame:
    rows = []
    for planned in plan.planned(profile, f"{experiment}/").values():
        result = files.read_result(profile, experiment, planned.stream.run)
        if result is None or not (planned.ended or "failed" in result["parameters"]):
            continue
        about, D = _about(planned, result["parameters"]), WIDTH[planned.model]
        rows += [about | row | {"load": row["n_edits"] / D} for row in result["metrics"]]
        if failed := result["parameters"].get("failed"):
            n = failed["n_edits"]
            rows.append(about | {"n_edits": n, "load": n / D, "failed": failed["sentence"]})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


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
