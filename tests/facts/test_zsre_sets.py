"""ZsRE in three sets that are never mixed: false answers, true answers, and the true ones swapped."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pytest
from test_records import needs_literature

from memoir import EditRecord, load_records
from memoir.facts import reading, swapping
from memoir.texts import normalised

SETS = ("zsre-edit", "zsre-true", "zsre-swapped")
SWAPPED = "74291521d9056a0c7f5ca1a4b20286b8c37755fc39ed49367a425c5af0c03d4f"  # of all swapped answers, in their order


def asked(prompt: str, subject: str, target: str) -> EditRecord:
    more = dict(rephrasings=(f"{subject}?",), irrelevant=f"nq question: {prompt}", irrelevant_answer="kept")
    return EditRecord(prompt, subject, prompt, target, **more)


MADE_UP = [
    asked("Who wrote Emma?", "Emma", "Jane Austen"),
    asked("Who wrote Faust?", "Faust", "Goethe"),
    asked("who  wrote Dracula?", "Dracula", "Bram Stoker"),
    asked("Who is the author of Emma?", "Emma", "Jane Austen"),  # in other words
    asked("Who wrote Persuasion?", "Persuasion", "The Jane Austen"),  # the same answer but for an article
    asked("Which year was Emma published?", "Emma", "1815"),
    asked("Which year saw Ulysses?", "Ulysses", "1922"),  # another template, the same question words and kind
    asked("Which year is odd?", "odd", "no number"),  # the same question words, another kind
    asked("The date of Ulysses?", "Ulysses", "1922 or so"),  # neither a question word nor a fellow
]


def test_made_up_records_take_answers_of_their_template_or_kind():
    drawn = swapping.draw(MADE_UP)
    assert [one.answer for one in drawn] == [
        "Goethe", "Bram Stoker", "The Jane Austen", "Goethe", "Goethe", "1922", "1815", "no number", "1815",
    ]  # fmt: skip
    assert [one.way for one in drawn] == [
        *["template"] * 3, "other wording", "template", "kind", "kind", "none", "other wording",
    ]  # fmt: skip
    assert drawn == swapping.draw(list(MADE_UP))
    (place, first), *_, (last, _) = swapping.swapped(MADE_UP)
    assert (place, last) == (0, 8)
    assert first == replace(MADE_UP[0], target="Goethe", truths=("Jane Austen",)), "its other parts stay"


def test_what_finds_no_other_answer_is_rejected():
    found = list(reading.validate([record for _, record in swapping.swapped(MADE_UP)]))
    assert [place for place, _ in found] == [7] and "true answer already" in found[0][1]


def test_a_subjects_other_answers_are_not_swapped_in():
    answers = [asked("Who wrote Emma?", "Emma", "Jane"), asked("Who sold Emma?", "emma", "Goethe")]
    drawn = swapping.draw([*answers, *MADE_UP[1:3]])
    assert [one.answer for one in drawn] == ["Bram Stoker", "Bram Stoker", "Bram Stoker", "Jane"]


@pytest.mark.parametrize(
    ("prompt", "subject", "template", "words"),
    [
        (
            "What  is the name of the state where Ada is?",
            "Ada",
            "what is the name of the state where {} is?",
            "what state",
        ),
        ("The continent of Ida is what?", "Ida", "the continent of {} is what?", "what continent"),
        ("What was what?", "was", "what {} what?", "what what"),
        ("When did Art's art start?", "Art", "when did {}'s {} start?", "when"),
        ("Is Ida old?", "Ida", "is {} old?", ""),
    ],
)
def test_templates_and_question_words(prompt, subject, template, words):
    record = asked(prompt, subject, "x")
    assert (swapping.template(record), swapping.question_words(record)) == (template, words)


def test_kinds_of_answers_and_answers_that_are_alike():
    shapes = ["2 July 1911", "1911-07-02", "1911", "24", "5,000 km", "Élan", "mayor", "3D"]
    assert list(map(swapping.kind, shapes)) == ["date", "date", "year", "number", "number", "name", "other", "number"]
    assert swapping.alike("suicide", "suicide by hanging") and swapping.alike("The Sun", "sun")
    assert not swapping.alike("male", "female") and not swapping.alike("+/", "C")


@needs_literature
def test_swapped_answers_are_another_records_of_the_same_template_or_kind():
    records = load_records("zsre-true")
    pools, subjects = {}, {}
    for record, drawn in zip(records, swapping.draw(records), strict=True):
        subjects.setdefault(record.subject.casefold(), []).append((record, drawn))
        for key in swapping.keys(record):
            pools.setdefault(key, set()).add(record.target)
    for pairs in subjects.values():
        for i, (record, drawn) in enumerate(pairs):
            same = [other for was, other in pairs[:i] if swapping.alike(was.target, record.target)]
            if drawn.way == swapping.NONE:
                assert drawn.answer == record.target
                continue
            assert not any(swapping.alike(drawn.answer, other.target) for other, _ in pairs), "false, of this subject"
            if drawn.way == swapping.WORDING:
                assert drawn.answer in [other.answer for other in same]
            else:
                assert drawn.answer in pools[next(key for key in swapping.keys(record) if key[0] == drawn.way)]
            assert {other.answer for other in same if other.way != swapping.NONE} <= {drawn.answer}, (
                "one fact, one answer"
            )


@needs_literature
def test_swapped_records_keep_all_but_their_target():
    true = {record.prompt: record for record in load_records("zsre-true")}
    kept, rejected = reading.read_records("zsre-swapped")
    assert len(kept) + len(rejected) == len(true)
    assert sha256("\n".join(record.target for record in kept).encode()).hexdigest() == SWAPPED, "the same everywhere"
    for record in kept:
        was = true[record.prompt]
        assert normalised(record.target) != normalised(was.target)
        assert record == replace(was, id=record.id, target=record.target, truths=(was.target,))


@needs_literature
def test_the_three_sets_share_no_record_and_are_what_the_mixed_one_holds():
    ids = Counter(record.id for name in SETS for record in load_records(name))
    assert max(ids.values()) == 1
    edit, true, mixed = (load_records(name) for name in ("zsre-edit", "zsre-true", "zsre"))
    assert mixed[: len(edit)] == edit
    assert [replace(record, id="") for record in mixed[len(edit) :]] == [replace(record, id="") for record in true]
