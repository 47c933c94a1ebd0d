"""Results planted for the tests of claims and items: streams whose numbers one can choose."""

import json

import numpy as np
import pandas as pd

from memoir.lab.evidence import files, plan
from memoir.lab.experiments.lasting import fading
from memoir.lab.paper import claims

ALL = claims.claims()
PLANNED = {profile: plan.planned(profile) for profile in ("full", "paper")}
LENGTHS = (10, 100, 107, 750, 1000, 1607, 7000, 11009)
BORN = {"model": "smollm2-135m-abc", "device": "cpu", "commit": "abc", "ended": "2026-01-01", "edit_seconds": 10.0}


def stream(values=None, lengths=LENGTHS, width=0.01, **more):
    """A stream's result: each metric's mean at each length, 0.9 unless given by metric or by (metric, length)."""
    values, rows = values or {}, []
    for metric in ("reliability", "generalization", "locality"):
        for n in lengths:
            mean = values.get((metric, n), values.get(metric, 0.9))
            rows.append(dict(metric=metric, protocol="teacher-forced", mean=mean, low=mean - width, high=mean + width,
                             n=n, n_edits=n))  # fmt: skip
    how = {"method": "memoir", "stream": {"at": list(lengths)}, "editor": {}} | more
    return {"run": "planted", "metrics": rows, "parameters": how, "provenance": BORN}


def long_targets(nll, likely=0.0, n=75, texts=5):
    """A table of questions about so many long targets, and about as many texts on their subjects."""
    rows = [dict(record=str(i), metric=metric, n_edits=n, nll=nll + i / 1e6, likely=likely, **{"teacher-forced": 0.9})
            for metric in ("reliability", "ood generalization") for i in range(texts)]  # fmt: skip
    return pd.DataFrame(rows)


def aged(late=None):
    """Exposures, and questions that obey the formula of forgetting; `late`: all that is kept of 3,000 edits instead."""
    exposures, questions = [], []
    for n in (107, 750, 3000):
        x = np.linspace(3, 0, n)
        exposures.append(pd.DataFrame({"n_edits": n, "edit": range(n)} | {f"x{b}": x for b in fading.EXPONENTS}))
        kept = np.exp(-x / 2) if n < 3000 or late is None else late
        questions.append(pd.DataFrame({"record": [str(i) for i in range(n)], "metric": "reliability", "n_edits": n,
                                       "nll": 0.1, "likely": 0.0, "teacher-forced": kept}))  # fmt: skip
    return pd.concat(exposures), pd.concat(questions)


def write(profile, name, content):
    """Plant a result, with the tables that a stream of the plan leaves, or a table."""
    path = files.RESULTS / profile / (name if name.endswith(".parquet") else f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        content.to_parquet(path)
        return
    path.write_text(json.dumps(content))
    planned = PLANNED[profile].get(name)
    for table in planned.tables.values() if planned else ():
        if not table.exists():
            long_targets(0.1, n=1000).to_parquet(table)
