"""Each metric on an example worked out by hand, and the table that `evaluate` makes."""

import math

import numpy as np
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


def test_an_interval_is_wilsons_with_the_effective_number_of_values():
    table = pd.DataFrame({"record": list("abcd"), "metric": "m", "protocol": "p", "value": [0.0, 1.0, 1.0, 1.0]})
    (row,) = summary(table).to_dict("records")
    # mean 3/4, its variance (9 + 3) / 16 / 16 * 4/3 = 1/16: three values, as 3/4 * 1/4 / (1/16); t(0.975, 3)^2 / 3 = z
    z = 3.1824463**2 / 3
    middle, half = (0.75 + z / 2) / (1 + z), (z * (3 / 16 + z / 4)) ** 0.5 / (1 + z)
    assert row == {"metric": "m", "protocol": "p", "mean": 0.75, "n": 4, "low": pytest.approx(middle - half),
                   "high": pytest.approx(middle + half)}  # fmt: skip


def test_of_many_ones_and_zeros_it_is_the_usual_interval_of_a_share():
    values = pd.Series([1.0] * 900 + [0.0] * 100)
    assert metrics.interval(values) == pytest.approx(metrics.share(values), abs=1e-4)


def test_values_on_one_subject_count_once_however_often_they_are_asked():
    values, often = pd.Series([1.0, 0.0, 1.0, 0.5, 1.0] * 6), pd.Series(range(30)).repeat(4)
    once = metrics.interval(values)
    again = metrics.interval(values.repeat(4), often)
    assert again | {"n": 30} == pytest.approx(once) and again["n"] == 120
    apart = metrics.interval(values.repeat(4))
    assert apart["high"] - apart["low"] < 0.6 * (once["high"] - once["low"])


def test_where_all_is_right_the_interval_is_that_of_so_many_subjects():
    found = metrics.interval(pd.Series([1.0] * 60), pd.Series(range(30)).repeat(2))
    assert found["high"] == 1 and 0.85 < found["low"] < 0.9
    assert metrics.interval(pd.Series([1.0])) == {"mean": 1.0, "low": 0.0, "high": 1.0, "n": 1}


def test_a_paired_difference_sees_what_intervals_beside_each_other_do_not():
    rng = np.random.default_rng(0)
    one = pd.Series(rng.uniform(size=100))
    other = one - 0.02 + pd.Series(rng.normal(0, 0.02, 100))
    found = metrics.paired(one, other)
    assert 0.015 < found["low"] < 0.02 < found["high"] < 0.026
    assert metrics.interval(other)["high"] > metrics.interval(one)["low"]


def test_the_average_is_of_records_that_have_all_three():
    rows = [("a", m, v) for m, v in (("reliability", 1.0), ("generalization", 0.5), ("locality", 0.0))]
    rows += [("b", "reliability", 1.0), ("b", "locality", 1.0)]
    table = pd.DataFrame(rows, columns=["record", "metric", "value"]).assign(protocol="p", subject="x")
    average = metrics.with_average(table).query("metric == 'average'")
    assert average.record.tolist() == ["a"] and average.value.tolist() == [0.5]
    bare = table[table.metric != "generalization"]
    assert metrics.with_average(bare).equals(bare)


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
    assert list(table.columns) == ["record", "subject", "metric", "protocol", "value"]
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
