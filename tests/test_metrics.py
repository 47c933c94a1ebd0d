"""Each metric on an example worked out by hand, and the table that `evaluate` makes."""

import math

import pandas as pd
import pytest
import torch

from memoir import EditRecord, Score, evaluate, metrics, summary, texts
from memoir.facts.record import LOCALITIES, OOD, questions


def score(target, argmax):
    return Score(torch.tensor(target), torch.tensor(argmax), torch.zeros(len(target)))


def test_token_accuracy_counts_arg_max_tokens():
    assert metrics.token_accuracy(score([5, 6, 7, 8], [5, 0, 7, 8])) == 0.75


def test_token_agreement_compares_two_models_not_the_target():
    assert metrics.token_agreement(score([5, 6, 7], [1, 2, 3]), score([5, 6, 7], [1, 2, 9])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" The  Quick,brown fox! ", "quickbrown fox"),
        ("A U.S. state", "us state"),
        ("Lyon", "lyon"),
        ("thesis", "thesis"),
    ],
)
def test_normalisation_is_squads(text, expected):
    assert metrics.normalised(text) == expected


def test_perplexity_by_hand():
    # every token of the first target has p = 1/2; the second's have 1/4 and 1/16, whose geometric mean is 1/8
    first = Score(torch.tensor([1, 2]), torch.tensor([1, 2]), torch.tensor([0.5, 0.5]).log())
    second = Score(torch.tensor([1, 2]), torch.tensor([1, 2]), torch.tensor([0.25, 0.0625]).log())
    nll = pd.Series([metrics.nll(first), metrics.nll(second), math.log(1000)])
    assert metrics.perplexity(nll).tolist() == pytest.approx([2, 8, 1000])
    assert metrics.perplexity(nll, metrics.CLIP).tolist() == pytest.approx([2, 8, 100])


def test_both_definitions_of_ood_generalization_by_hand():
    def text(*probabilities):
        tokens = torch.arange(len(probabilities))
        return Score(tokens, tokens, torch.tensor(probabilities).log())

    # the bound is -ln 0.8 = 0.2231: (3 · 0.1054 + 1.2040) / 4 = 0.3800 and (2 · 0.1625 + 2 · 0.2357) / 4 = 0.1991
    surprised, even = text(0.9, 0.9, 0.3, 0.9), text(0.85, 0.85, 0.79, 0.79)
    nll = pd.Series([metrics.nll(surprised), metrics.nll(even)])
    assert nll.tolist() == pytest.approx([0.3800, 0.1991], abs=1e-4)
    assert metrics.likely_texts(nll).tolist() == [0, 1]
    assert [metrics.likely_tokens(surprised), metrics.likely_tokens(even)] == [0.75, 0.5]


def test_summary_is_students_interval():
    table = pd.DataFrame({"record": list("abcd"), "metric": "m", "protocol": "p", "value": [0.0, 1.0, 1.0, 1.0]})
    (row,) = summary(table).to_dict("records")
    # mean 3/4, s = 1/2, standard error 1/4, t(0.975, 3) = 3.1824
    assert row["mean"] == 0.75 and row["n"] == 4
    assert row["high"] - row["mean"] == pytest.approx(3.1824463 / 4)
    assert math.isclose(row["mean"] - row["low"], row["high"] - row["mean"])


RECORD = EditRecord(
    id="one",
    subject="France",
    prompt="What is the capital of France?",
    target="Lyon",
    rephrasings=("France's capital is", "Capital of France:"),
    irrelevant="The boiling point of water is",
    irrelevant_answer="100 degrees",
    neighbour="What is the capital of Italy?",
    neighbour_answer="Rome",
)


def test_a_text_on_the_subject_follows_its_prompt():
    texts = ["What is the capital of France? It is Lyon.", "France is governed from Lyon."]
    records = [EditRecord(id=t, subject="France", prompt=RECORD.prompt, target="Lyon", ood=t) for t in texts]
    asked = [question for record in records for question in questions(record) if question[0] == OOD]
    assert asked == [(OOD, RECORD.prompt, " It is Lyon."), (OOD, RECORD.prompt, texts[1])]


def test_evaluate_gives_a_row_per_record_metric_and_protocol(toy_editor):
    editor = toy_editor()
    bare = EditRecord(id="two", subject="Peru", prompt="Name a river in Peru.", target="Amazon")
    table = evaluate(editor, [RECORD, bare])
    assert list(table.columns) == ["record", "metric", "protocol", "value"]
    assert len(table) == 2 * (4 + 1) and not table.duplicated(["record", "metric", "protocol"]).any()
    assert table.value.between(0, 1).all()
    assert (table[table.metric.isin(LOCALITIES)].value == 1).all()  # nothing was edited yet
    assert set(evaluate(editor, [RECORD], generated=False).protocol) == {metrics.TEACHER_FORCED}


def test_locality_is_against_the_answers_of_the_untouched_model(toy_editor):
    editor = toy_editor(threshold=0.0, n_iter=30, lr=4.0)  # every question is answered from memory
    editor.remember_base([RECORD])
    cached = dict(editor.base_answers)
    editor.edit(RECORD.prompt, "Lyon Lyon Lyon")
    table = evaluate(editor, [RECORD]).set_index(["metric", "protocol"]).value
    assert editor.base_answers == cached
    assert table["reliability", "teacher-forced"] == table["reliability", "generated"] == 1
    assert table["locality", "generated"] < 1


def test_what_the_base_model_says_is_the_same_when_it_is_asked_after_edits(toy_editor):
    before, after = (toy_editor(threshold=0.0, n_iter=30, lr=4.0) for _ in range(2))
    before.remember_base([RECORD])
    after.edit_all([RECORD])
    after.remember_base([RECORD])
    assert before.base_answers.keys() == after.base_answers.keys()
    for pair, (earlier, text) in before.base_answers.items():
        later = after.base_answers[pair]
        assert later.text == text and torch.equal(later.score.log_probs, earlier.log_probs)


def test_generation_is_as_long_as_the_answer(toy_editor):
    editor = toy_editor()
    for answer in ("Lyon", "Lyon and the whole of the Rhône"):
        (text,) = editor.said([RECORD.prompt], [answer])
        assert len(editor.generate([RECORD.prompt], max_new_tokens=1)) == 1 and text
        n = len(texts.target_ids(editor.tokenizer, RECORD.prompt, answer))
        assert text == editor.generate([RECORD.prompt], max_new_tokens=n, min_new_tokens=n)[0]
