"""The real model, the default settings, the first ten records of ZsRE's edit file: the small form of the run whose
result is committed as data/results/full/first-100/zsre.json."""

from test_records import needs_literature

import memoir
from memoir.metrics import TEACHER_FORCED


@needs_literature
def test_ten_zsre_edits_reach_the_bars(smollm2):
    editor = memoir.Memoir(*smollm2, **memoir.settings("smollm2-135m"))
    records = memoir.load_records("zsre", 10)
    editor.edit_all(records)
    summary = memoir.summary(memoir.evaluate(editor, records))
    editor.detach()
    found = summary[summary.protocol == TEACHER_FORCED].set_index("metric")["mean"]
    assert found["reliability"] >= 0.90
    assert found["generalization"] >= 0.80
    assert found["locality"] >= 0.99
