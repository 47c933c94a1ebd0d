"""What finished streams say, on examples worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from memoir.lab.experiments.lasting import frames as lasting


def questions(rows):
    names = ["n_edits", "record", "metric", "teacher-forced", "nll", "route"]
    return pd.DataFrame(rows, columns=names)


ASKED = questions(
    [
        (2, "a", "reliability", 1.0, 0.1, "own edit"),
        (2, "b", "reliability", 0.5, 2.0, "own edit"),
        (2, "a", "generalization", 0.5, 1.0, "own edit"),
        (2, "b", "generalization", 0.0, 4.0, "base model"),
        (4, "a", "reliability", 1.0, 0.2, "own edit"),
        (4, "b", "reliability", 0.0, 5.0, "own edit"),
        (4, "c", "reliability", 0.5, 3.0, "own edit"),
        (4, "d", "reliability", 0.0, 6.0, "other edit"),
        (4, "a", "generalization", 1.0, 0.2, "own edit"),
        (4, "b", "generalization", 0.0, 5.0, "own edit"),
        (4, "c", "generalization", 0.0, 3.0, "base model"),
        (4, "d", "generalization", 0.0, 6.0, "other edit"),
    ]
)
EDITS = pd.DataFrame({"last_loss": [0.1, 0.0, 1.5, 0.0]})


def test_where_accuracy_was_lost_adds_up_to_one():
    found = lasting.where_lost(ASKED, EDITS).set_index(["metric", "n_edits"])
    ways = ["answered", "overwritten", "not learnt", "other edit", "base model", "other wording"]
    assert found[ways].sum(axis=1).tolist() == pytest.approx([1.0] * 4)
    at_4 = found.loc["reliability", 4]
    # a answers; b was learnt and is gone; c's own loss was 1.5 nats; d is routed elsewhere
    assert at_4[["answered", "overwritten", "not learnt", "other edit"]].tolist() == [0.375, 0.25, 0.125, 0.25]
    at_2 = found.loc["generalization", 2]
    assert at_2[["answered", "other wording", "base model"]].tolist() == [0.25, 0.25, 0.5]


def test_age_counts_blocks_of_the_stream():
    found = lasting.by_age(ASKED, blocks=2).set_index(["metric", "edits_before"])["teacher-forced"]
    assert found["reliability", 0] == 0.5 and found["reliability", 2] == 0.25


def test_drift_is_now_minus_then():
    found = lasting.drift(ASKED, EDITS).set_index("n_edits")
    assert found.loc[2, "50%"] == pytest.approx(np.median([0.0, 2.0]))
    assert found.loc[4, "50%"] == pytest.approx(np.median([0.1, 5.0, 1.5, 6.0]))


def test_untouched_facts():
    table = pd.DataFrame(
        {
            "n_edits": 5, "agreement": [1.0, 0.5], "route": ["base model", "other edit"], "knew": [True, True],
            "knows": [True, False], "nll_before": [0.0, np.log(4)], "nll": [0.0, np.log(16)], "overlap": [0.2, 0.6],
        }
    )  # fmt: skip
    (row,) = lasting.untouched(table).to_dict("records")
    assert (row["agreement"], row["opened"], row["knew_kept"], row["overlap"]) == (0.75, 0.5, 0.5, 0.4)
    assert (row["perplexity_before"], row["perplexity"]) == pytest.approx((2, 4))


def test_the_papers_points_are_those_it_prints():
    points = lasting.paper_by_load().set_index(["metric", "n_edits"]).value
    assert points["reliability", 1000] == 0.94 and points["generalization", 15000] == 0.78
    assert len(lasting.paper_by_age()) == 10


def test_the_effective_law_goes_through_the_first_point():
    table = pd.DataFrame({"n_edits": [10, 1000], "overlap": [0.45, 0.5]})
    law = lasting.overlap_law_at(table, 439, 1536).set_index(["label", "n_edits"]).share
    fitted = next(label for label in law.index.levels[0] if "columns" in label)
    assert law[fitted, 10] == pytest.approx(0.45, abs=2e-3) and law[fitted, 1000] > law[fitted, 10]
