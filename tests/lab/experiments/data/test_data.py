"""Notebook 15's frames: what the untouched model says beside what is expected, and means by set."""

import numpy as np
import pandas as pd
import pytest

from memoir.facts.record import EditRecord
from memoir.lab.evidence.ablated import Unedited
from memoir.lab.experiments.data import frames as data_frames
from memoir.metrics import GENERATED, TEACHER_FORCED

RECORDS = [
    EditRecord(
        id="a", subject="France", prompt="The capital of France is", target="Lyon", truths=("Paris",), relation="r"
    ),
    EditRecord(id="b", subject="", prompt="Name a river in Peru.", target="Amazon", relation="s"),
]


def test_an_answer_stands_beside_the_truth_or_the_target(smollm2):
    editor = Unedited(*smollm2)
    true, written = (data_frames.answers(editor, RECORDS, kind) for kind in ("true answer", "target"))
    assert true.expected.tolist() == ["Paris", "Amazon"]  # without a truth, the target is the true answer
    assert written.expected.tolist() == ["Lyon", "Amazon"]
    assert true[TEACHER_FORCED][0] == true[GENERATED][0] == 1 and written[GENERATED][0] == 0
    assert true.said[0].strip() == "Paris" and true.relation.tolist() == ["r", "s"]
    silent = data_frames.answers(editor, RECORDS, "target", generated=False)
    assert silent.said.isna().all() and silent[GENERATED].isna().all()


def test_means_by_set_have_no_number_where_nothing_was_asked():
    asked = pd.DataFrame({"set": "x", "answer": "target", TEACHER_FORCED: [0.0, 1.0], GENERATED: [None, None]})
    missing = pd.DataFrame({"set": ["y"], "answer": "target"})
    found = data_frames.by_set(pd.concat([asked, missing], ignore_index=True)).set_index(["set", "protocol"])
    assert found["mean"]["x", TEACHER_FORCED] == pytest.approx(0.5) and found.n["x", TEACHER_FORCED] == 2
    assert np.isnan(found["mean"]["x", GENERATED]) and np.isnan(found["mean"]["y", TEACHER_FORCED])
