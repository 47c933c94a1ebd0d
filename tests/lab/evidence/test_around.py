"""Questions around an edit: which a record has, and what is told of the answers."""

import pytest

from memoir.facts.record import EditRecord
from memoir.lab.evidence import around

FACT = EditRecord(
    "0", "The mill", "The mill is owned by", "Otto", rephrasings=("Who owns the mill?", "Whose is it?"),
    around=(("reasoning", "The owner of the mill lives in", "Ulm"),), chinese="磨坊属于",
    neighbour="The barn is owned by", neighbour_answer="Ida",
)  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "prompt", "negated"),
    [
        ("Rome", "The capital of Rome is", "The capital of Rome is not"),
        ("What is", "What is is made by", "What is is not made by"),
        ("Rome", "Where is Rome?", None),
        ("Rome", "Rome borders", None),
        ("Rome", "The country that Rome is associated with is", "The country that Rome is associated with is not"),
    ],
)
def test_the_opposite_of_a_statement(subject, prompt, negated):
    assert around.denied(EditRecord("0", subject, prompt, "x")) == negated


def test_a_record_asks_all_that_it_has():
    found = {kind: (question, right) for kind, question, right in around.around(FACT)}
    assert found == {
        "edited prompt": ("The mill is owned by", "Otto"), "rephrasing": ("Who owns the mill?", "Otto"),
        "negated": ("The mill is not owned by", None), "near neighbour": ("The barn is owned by", "Ida"),
        "chinese": ("磨坊属于", "Otto"), "reasoning": ("The owner of the mill lives in", "Ulm"),
    }  # fmt: skip


def test_what_is_told_of_the_answers(toy_editor):
    editor = toy_editor(threshold=0.99, lr=5.0, n_iter=30, prefixes=())
    editor.edit(FACT.prompt, FACT.target)
    table = around.asked(editor, [FACT], 10).set_index("kind")
    own = table.loc["edited prompt"]
    assert own.route == "own edit" and own.target == own.right == own.accuracy == 1 and own.target_before == 0
    rest = table.drop(index="edited prompt")
    assert set(rest.route) == {"base model"} and (rest.kept == 1).all()
    assert (rest.target == rest.target_before).all() and rest.right.isna().sum() == 1
