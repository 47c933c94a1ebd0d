"""The data card of ZsRE's three sets is what was measured, and what the sets are."""

import os
from collections import Counter

import pytest

from memoir.facts import reading, swapping
from memoir.lab.evidence import files
from memoir.lab.evidence.ablated import Unedited
from memoir.lab.experiments.data import cards
from memoir.metrics import GENERATED, TEACHER_FORCED

needs_literature = pytest.mark.skipif(
    "MEMOIR_DATA" not in os.environ, reason="needs the published files: see tests/SKIPS.md"
)
RESULT = {
    "metrics": {
        "sets": [
            {
                "set": "zsre-edit",
                "records": 1009,
                "left_out": 28,
                "subjects": 7,
                "repeated": 2,
                "records_on_repeated": 5,
            }
            | {"answered": [{"protocol": TEACHER_FORCED, "mean": 0.1234}, {"protocol": GENERATED, "mean": 0.0}]}
        ],
        "swapped": {swapping.TEMPLATE: 1200, swapping.KIND: 3, swapping.WORDING: 2, swapping.NONE: 1},
    },
    "parameters": {"model": "small", "n_asked": 9},
}


def test_the_cards_table_is_the_committed_result():
    shown = cards.BETWEEN.search(cards.CARD.read_text("utf-8"))[0]
    assert shown == cards.rendered(files.read_result(*cards.RESULT)), "python -m memoir cards"


def test_a_result_is_put_between_the_markers_and_nothing_else_moves(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "CARD", tmp_path / "README.md")
    monkeypatch.setattr(files, "read_result", lambda *_: RESULT)
    cards.CARD.write_text(f"before\n{cards.START}\nold\n{cards.END}\nafter\n")
    text = cards.write().read_text()
    assert text.startswith(f"before\n{cards.START}\n| set |") and text.endswith(f"\n{cards.END}\nafter\n")
    assert "| 1,009 | 28 | 7 | 2 | 5 | 12.3 % | 0.0 % |" in text and "Of the 1,206 training rows 1,200 take" in text
    assert "old" not in text and cards.write().read_text() == text
    cards.CARD.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers"):
        cards.write()


def test_a_set_is_counted_and_asked(smollm2):
    found = cards.of_set("openfacts-background", Unedited(*smollm2), 3)
    kept, _ = reading.read_records("openfacts-background")
    times = Counter(record.subject.casefold() for record in kept)
    assert (found["records"], found["left_out"], found["subjects"]) == (100, 0, len(times))
    assert found["records_on_repeated"] - found["repeated"] == 100 - len(times)
    assert [(one["protocol"], one["n"]) for one in found["answered"]] == [(TEACHER_FORCED, 3), (GENERATED, 3)]


@needs_literature
def test_the_sets_are_as_the_card_counts_them():
    metrics = files.read_result(*cards.RESULT)["metrics"]
    assert [one["set"] for one in metrics["sets"]] == list(cards.TARGETS)
    for one in metrics["sets"]:
        kept, rejected = reading.read_records(one["set"])
        assert (len(kept), len(rejected)) == (one["records"], one["left_out"])
        assert len({record.subject.casefold() for record in kept}) == one["subjects"]
        assert all(answer["n"] == cards.ASKED for answer in one["answered"])
    drawn = swapping.draw(reading.load_records("zsre-true"))
    assert metrics["swapped"] == Counter(one.way for one in drawn)
