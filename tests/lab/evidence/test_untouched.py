"""What the untouched model says is asked once for all streams of a model, and is the same as when it is asked again."""

import pytest
import torch
from conftest import toy_model

from memoir import evaluation
from memoir.lab.evidence import untouched


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path))


def test_another_editor_recalls_what_one_has_asked(toy_editor, monkeypatch):
    one, other = toy_editor(), toy_editor(lr=2.0)
    one.remember([("Who keeps the mill?", "Otto")], generated=True)
    one.remember([("Where is it?", "here")], generated=False)
    untouched.keep(one)
    untouched.recall(other)
    assert other.base_answers.keys() == one.base_answers.keys()
    for pair, (score, text) in one.base_answers.items():
        found = other.base_answers[pair]
        assert found.text == text and torch.equal(found.score.target, score.target)
        assert torch.equal(found.score.argmax, score.argmax) and torch.equal(found.score.log_probs, score.log_probs)
    monkeypatch.setattr(evaluation.QueryableModel, "score", None)  # nothing is asked again
    other.remember([*one.base_answers], generated=False)


def test_another_model_has_answers_of_its_own(toy_editor):
    one, other = toy_editor(), toy_editor(toy_model(seed=1))
    one.remember([("Where is it?", "here")], generated=False)
    untouched.keep(one)
    untouched.recall(other)
    assert other.base_answers == {}
