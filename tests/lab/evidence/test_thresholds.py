"""What is read off one evaluation at τ = 0 is what an evaluation at that τ says; and the rest by hand."""

import pandas as pd
import pytest
from conftest import toy_model

from memoir import evaluation, metrics
from memoir.facts.record import EditRecord
from memoir.lab.evidence import probes, thresholds
from memoir.lab.evidence.ablated import Unedited

PLACES = ["Peru", "Chad", "Oman", "Fiji"]
FACTS = [
    EditRecord(id=place, subject=place, prompt=f"The capital of {place} is", target="Rome", truths=("Lima",),
               rephrasings=(f"Tell me the capital of {place}:", f"{place} is governed from the city of"),
               irrelevant=f"Water boils in {place} at", irrelevant_answer="100 degrees",
               neighbour=f"The capital of {place}'s neighbour is", neighbour_answer="Paris")
    for place in PLACES
]  # fmt: skip
PAIRS = [(f"The {thing} of Peru is", "the one that is known") for thing in ("capital", "river", "king", "sea", "end")]


@pytest.fixture
def asked(toy_editor, tokenizer):
    """An editor with all facts at τ = 0, what it says there, and what the untouched model says."""
    editor = toy_editor(threshold=0.0, n_iter=12, lr=4.0)
    editor.remember_base(FACTS)
    for fact in FACTS:
        editor.edit(fact.prompt, fact.target)
    opened = evaluation.ask(editor, FACTS).assign(n_edits=4)
    base = Unedited(toy_model(), tokenizer)
    closed = evaluation.ask(base, FACTS).assign(n_edits=4)
    return editor, opened, closed


def test_every_threshold_follows_from_one_evaluation(asked):
    editor, opened, closed = asked
    taus = sorted({round(overlap, 6) for overlap in opened.overlap})
    assert len(taus) > 4
    changed = 0
    for tau in (taus[0], taus[len(taus) // 2], taus[-1], 0.37):
        editor.memory.set_threshold(tau - 1e-6)
        direct = evaluation.ask(editor, FACTS).assign(n_edits=4)
        found = thresholds.gated(opened, closed, tau - 1e-6)
        pd.testing.assert_frame_equal(found[list(direct)], direct, rtol=1e-5)
        changed += int((direct.route != opened.route).any())
    assert changed >= 2


def test_probes_follow_too(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path))
    # a toy knows nothing: here it knows what it would not be too surprised by
    monkeypatch.setattr(metrics, "token_accuracy", lambda score: float(score.log_probs.mean() > -20))
    editor, opened, _ = asked
    tau = sorted(opened.overlap)[len(opened) // 2]
    kinds = {
        "known": lambda: probes.known(editor, [], 5, pairs=lambda: PAIRS), "text": lambda: probes.text(editor, [], 4),
        "contrast": lambda: probes.contrast(editor, FACTS, 4), "choices": lambda: probes.choices(editor, [], 8),
    }  # fmt: skip
    for name, ask in kinds.items():
        editor.memory.set_threshold(0.0)
        found = thresholds.gated_probe(ask(), tau)
        assert len(found) and found.overlap.notna().all(), name
        editor.memory.set_threshold(tau)
        direct = ask()
        assert direct.opened.nunique() == 2 or name != "contrast"
        pd.testing.assert_frame_equal(found, direct, rtol=1e-5, check_dtype=False)


def test_records_that_the_untouched_model_was_not_asked_are_an_error(asked):
    _, opened, closed = asked
    with pytest.raises(ValueError, match="the records differ"):
        thresholds.gated(opened, closed[closed.record != "Oman"], 0.5)


def questions(rows):
    names = ["record", "metric", "teacher-forced", "nll", "overlap", "route"]
    return pd.DataFrame(rows, columns=names).assign(n_edits=2)


OPENED = questions([
    ("a", "reliability", 1.0, 0.1, 1.0, "own edit"), ("a", "generalization", 1.0, 0.3, 0.8, "own edit"),
    ("a", "generalization", 0.5, 0.3, 0.3, "other edit"), ("a", "locality", 0.0, 9.0, 0.4, "other edit"),
    ("b", "reliability", 1.0, 0.1, 1.0, "own edit"), ("b", "generalization", 1.0, 0.4, 0.5, "own edit"),
    ("b", "locality", 0.5, 8.0, 0.2, "other edit"),
])  # fmt: skip
CLOSED = OPENED.assign(**{"teacher-forced": [0.0, 0.0, 0.2, 1.0, 0.0, 0.0, 1.0], "overlap": None, "route": None})


def test_a_sweep_by_hand():
    table = thresholds.sweep(OPENED, CLOSED, [0.0, 0.45, 0.6]).set_index(["metric", "tau"])
    assert table.loc["locality", "mean"].tolist() == [0.25, 1.0, 1.0]
    # record a's two rephrasings count as one record: (1 + 0.5) / 2, then (1 + 0.2) / 2
    assert table.loc["generalization", "mean"].tolist() == pytest.approx([0.875, 0.8, 0.3])
    assert table.loc["reliability", "mean"].tolist() == [1.0, 1.0, 1.0]
    assert table.loc["generalization", "opened"].tolist() == pytest.approx([1.0, 2 / 3, 1 / 3])


def test_a_roc_by_hand():
    curve, area = thresholds.roc(OPENED)
    at = curve.set_index("tau")
    assert at.loc[0.5].tolist() == pytest.approx([2 / 3, 0.0]) and at.loc[0.2].tolist() == pytest.approx([2 / 3, 1.0])
    # of 3 × 2 pairs 0.8 and 0.5 beat both irrelevant ones; the one matched to another edit beats none
    assert area == pytest.approx(4 / 6)


def test_calibration_is_that_of_the_editor(toy_editor):
    editor = toy_editor()
    editor.edit("The capital of France is", "Lyon")
    prompts = [f"How far is it to {place}, and why do you ask?" for place in PLACES]
    overlaps = pd.DataFrame({"overlap": [route.overlap for route in editor.route(prompts)]})
    for rate in (0.0, 0.25, 0.5):
        assert thresholds.calibrated(overlaps, editor.config.k, rate) == editor.calibrate(prompts, rate)
