"""Asking as people ask: what counts as an answer, and a table of every way of asking."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from shelves import RECORDS

from memoir.facts.record import EditRecord
from memoir.lab.evidence import wild
from memoir.queryable import Score

SCORE = Score(torch.tensor([1]), torch.tensor([1]), torch.tensor([0.0]))


@pytest.mark.parametrize(
    ("said", "target", "found"),
    [
        (" Lyon. It is a city", "Lyon", "Lyon"),
        ("Lyon\nQ: next", "Lyon", "Lyon"),
        ("Lyon and more", "Lyon", "Lyon and more"),
        ("J. L. Ruiz. He", "J. L. Ruiz", "J. L. Ruiz"),
        ("J. P. Ruiz", "J. L. Ruiz", "J"),
        ("43rd. He", "43rd.", "43rd"),
    ],
)
def test_an_answer_ends_where_it_naturally_does(said, target, found):
    assert wild.natural(said, target) == found


def test_what_is_judged():
    assert wild._judged("The Lyon.", "lyon") == {"exact": 1.0, "begins": 1.0}
    assert wild._judged("Lyon, in France", "Lyon") == {"exact": 0.0, "begins": 1.0}
    assert wild._judged("Paris", "Lyon") == {"exact": 0.0, "begins": 0.0}


def test_every_way_of_asking_has_its_rows(toy_editor, monkeypatch):
    monkeypatch.setattr(wild, "TOKENS", 3)
    monkeypatch.setattr(wild, "COMPARED", 3)
    monkeypatch.setattr(wild, "DOCUMENT", 40)
    editor = toy_editor(span="question", formats=("chat", "cue", "context"), end=True, prefixes=(), threshold=0.9)
    for record in RECORDS[:4]:
        editor.edit(record.prompt, record.target)
    table = wild.asked(editor, RECORDS[:4], 4)
    assert set(table.form) == {*wild.FORMS, "turn 2, cached", "turn 3, cached"}
    assert list(table.columns) == ["record", "form", "kind", "exact", "begins", "teacher_forced", "overlap", "route"]
    prompts = table[(table.kind == "prompt") & ~table.form.str.endswith("cached")]
    assert (prompts.groupby("form").size() == [4 if form not in wild.LONG else 1 for form in sorted(wild.FORMS)]).all()
    assert (table.form.str.endswith("cached")).sum() == 4
    assert set(prompts.route) == {"own edit"} and set(prompts.overlap) == {
        1.0
    }  # a question is read as if it stood alone
    irrelevant = table[(table.kind == "irrelevant") & (table.form == "chat")]
    assert irrelevant.empty or set(irrelevant.exact) <= {0.0, 1.0}


def test_what_scores_and_routes_tell_is_what_is_generated(toy_editor, monkeypatch):
    monkeypatch.setattr(wild, "TOKENS", 6)
    monkeypatch.setattr(wild, "COMPARED", 4)
    asks = ("Who keeps the mill?", "When does the owl sing?")
    facts = [
        EditRecord(ask, "", ask, target, irrelevant=f"Nobody: {ask}", irrelevant_answer="x")
        for ask, target in zip(asks, ("Otto", "noon"), strict=True)
    ]
    editor = toy_editor(span="question", formats=("chat",), end=True, lr=20.0, n_iter=80, prefixes=(), threshold=0.95)
    for fact in facts:
        editor.edit(fact.prompt, fact.target)
    generated, said = [], wild._said
    monkeypatch.setattr(wild, "_said", lambda *args, **more: generated.append(args[1]) or said(*args, **more))
    told = wild.asked(editor, facts, 4, forms=wild.PROTOCOL)
    fewer = sum(map(len, generated))
    generated.clear()
    monkeypatch.setattr(wild, "_told", lambda *_: {})
    monkeypatch.setattr(wild, "hasattr", lambda *_: False, raising=False)
    pd.testing.assert_frame_equal(told, wild.asked(editor, facts, 4, forms=wild.PROTOCOL))
    assert fewer < sum(map(len, generated)) and told[told.kind == "prompt"].exact.any()


def test_answers_that_have_ended_early_are_generated_once_and_the_others_whole(monkeypatch):
    whole = {"a": "one two.", "b": "one two three four five six seven eight", "c": "one"}  # c: an end token
    asked = []

    def said(_editor, texts, tokens, **_options):
        asked.append((texts, tokens))
        return [" ".join(whole[text].split()[:tokens]) for text in texts]

    monkeypatch.setattr(wild, "_said", said)
    monkeypatch.setattr(wild, "FIRST", 4)
    tokenizer = lambda text: SimpleNamespace(input_ids=text.split())  # noqa: E731
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=0))
    score = lambda texts, _targets: [SCORE] * len(texts)  # noqa: E731
    editor = SimpleNamespace(tokenizer=tokenizer, score=score, model=model)
    about = [{"record": name, "form": "alone", "kind": "prompt", "own": None} for name in whole]
    found = wild._answered(editor, list(whole), ["one two", whole["b"], "two"], about)
    assert asked == [(["a", "b", "c"], 4), (["b"], wild.TOKENS)]
    assert [row["exact"] for row in found] == [1.0, 1.0, 0.0]


def test_a_cache_says_the_same(toy_editor, monkeypatch):
    monkeypatch.setattr(wild, "TOKENS", 4)
    editor = toy_editor(span="question", prefixes=(), threshold=0.9)
    for record in RECORDS[:3]:
        editor.edit(record.prompt, record.target)
    for i, record in enumerate(RECORDS[:3]):
        conversation = wild.posed(editor.tokenizer, "turn 3", RECORDS[:3], i, record.prompt)
        options = {"stop_strings": [".", "\n"], "tokenizer": editor.tokenizer}
        assert wild._with_a_cache(editor, conversation, options) == editor.chat(
            conversation, max_new_tokens=4, **options
        )
