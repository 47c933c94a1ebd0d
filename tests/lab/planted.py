"""Finished streams of two records, planted for tests of notebooks 07 and 08: what can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from memoir import plots
from memoir.lab.evidence import files, plan
from memoir.lab.experiments.ablations import frames as ablations

K, TAU = 439, 0.48


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Write the plan's text, then each stream's tables: what finished streams would have left."""
    for module, name in ((plan, "PARAMS"), (files, "RESULTS"), (plots, "FIGURES")):
        monkeypatch.setattr(module, name, tmp_path / name)
    plan.PARAMS.mkdir()

    def write(text: str, tables: dict[str, dict[str, pd.DataFrame]]) -> None:
        (plan.PARAMS / "full.yaml").write_text(text)
        for name, planned in plan.planned("full").items():
            if name in tables:
                files.write_result(planned.result, [], {"editor": {"k": K} | planned.editor}, {}, tables[name])

    return write


def questions(values, overlaps, n_edits, route="own edit") -> pd.DataFrame:
    """Two records with one question of each metric: values and overlaps by metric."""
    rows = [
        {
            "n_edits": n_edits,
            "record": record,
            "metric": metric,
            "teacher-forced": value,
            "nll": 1.0,
            "overlap": overlap,
        }
        for metric in values
        for record, value, overlap in zip("ab", values[metric], overlaps[metric], strict=True)
    ]
    return pd.DataFrame(rows).assign(route=route)


NONE = dict.fromkeys(ablations.PARTS, (None, None))
OVERLAPS = {"reliability": (1.0, 1.0), "generalization": (0.9, 0.46), "locality": (0.47, 0.6)}
OPEN = questions({"reliability": (1, 0.5), "generalization": (1, 1), "locality": (0, 0.5)}, OVERLAPS, 2)
BASE = questions({"reliability": (0, 0), "generalization": (0, 0.5), "locality": (1, 1)}, NONE, 2, None)
IRRELEVANT = pd.DataFrame({"n_edits": 2, "overlap": np.array([200] * 99 + [264]) / K})  # 1 % may reach 201 of 439


def ended(table, **more):
    return {"questions": table, "edits": pd.DataFrame({"last_loss": [0.1, 0.1]}), **more}
