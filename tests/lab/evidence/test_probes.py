"""Probes measure what they say, against plain loops over transformers' own loss; a stream keeps their tables."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import toy_model

from memoir.facts.record import LOCALITIES, EditRecord
from memoir.lab.evidence import files, plan, probes, runs
from memoir.lab.evidence.ablated import Unedited
from memoir.lab.experiments.retention import frames as retention


@pytest.fixture
def untouched(tokenizer):
    return Unedited(toy_model(), tokenizer)


@torch.no_grad()
def plain_loss(editor, prompt, answer) -> float:
    """transformers' own loss of the answer's tokens, one text at a time."""
    before = editor.tokenizer(prompt.rstrip()).input_ids
    ids = torch.tensor([editor.tokenizer(f"{prompt.rstrip()} {answer}").input_ids])
    labels = ids.clone()
    labels[:, : len(before)] = -100
    return editor.model(input_ids=ids, labels=labels).loss.item()


def test_perplexity_of_neutral_text_is_transformers_own(untouched):
    table = probes.text(untouched, [], 3)
    losses = [plain_loss(untouched, *pair) for pair in probes.paragraphs()[:3]]
    assert table.nll.tolist() == pytest.approx(losses, rel=1e-4) and (table.nll == table.nll_before).all()
    expected = np.exp(np.average(losses, weights=table.tokens))
    assert retention.perplexity(table.nll, table.tokens) == pytest.approx(expected, rel=1e-4)


def test_perplexity_by_hand():
    # one token of probability 1/2 and three of 1/4: (2 · 4³) ** (1/4)
    found = retention.perplexity(pd.Series([np.log(2), np.log(4)]), pd.Series([1, 3]))
    assert found == pytest.approx(128**0.25)


FACT = EditRecord(id="a", subject="France", prompt="The capital of France is", target="Lyon", truths=("Paris",),
                  rephrasings=("France is governed from", "The seat of France's government is"),
                  irrelevant="The boiling point of water is", irrelevant_answer="100 degrees")  # fmt: skip
BESIDE = {"neighbour": "The capital of Italy is", "neighbour_answer": "Rome"}


@pytest.mark.parametrize("beside", [{}, BESIDE], ids=["irrelevant", "neighbour"])
def test_contrasts_compare_the_new_answer_with_the_true_one(beside, untouched):
    fact = EditRecord(**vars(FACT) | beside)
    table = probes.contrast(untouched, [fact], 5)
    near = (fact.neighbour, fact.neighbour_answer) if beside else (fact.irrelevant, fact.irrelevant_answer)
    loss = {(prompt, answer): plain_loss(untouched, prompt, answer)
            for prompt in (fact.prompt, *fact.rephrasings) for answer in ("Lyon", "Paris")}  # fmt: skip
    expected = [loss[prompt, "Lyon"] < loss[prompt, "Paris"] for prompt in (fact.prompt, *fact.rephrasings)]
    expected.append(plain_loss(untouched, *near) < plain_loss(untouched, near[0], "Lyon"))
    assert table.metric.tolist() == ["efficacy", "paraphrase", "paraphrase", "neighbourhood"]
    assert table.won.tolist() == table.won_before.tolist() == expected


def test_an_edit_wins_its_contrast(toy_editor):
    editor = toy_editor(n_iter=30, lr=4.0, threshold=0.9)
    editor.edit(FACT.prompt, FACT.target)
    editor.edit("The capital of Italy is", "Oslo")
    table = probes.contrast(editor, [FACT], 5).set_index("metric")
    assert table.won["efficacy"] and table.opened["efficacy"] and not table.opened["neighbourhood"]


def test_known_facts_are_found_once_and_asked_again(untouched, toy_editor, monkeypatch, tmp_path):
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path))
    pairs = [(FACT.prompt, untouched.generate([FACT.prompt], 2)[0]), (FACT.prompt, "Paris"), (FACT.irrelevant, "blue")]
    table = probes.known(untouched, [], 9, pairs=lambda: pairs)
    assert table.prompt.tolist() == [FACT.prompt] and table.n_asked.tolist() == [3]
    assert table.knows.all() and table.opened.isna().all()
    editor = toy_editor(n_iter=40, lr=4.0)
    editor.edit(FACT.prompt, "Lyon")
    monkeypatch.setattr(editor, "base", None)  # what was known is in the cache; the answer itself is asked below
    editor.base_answers = dict(untouched.base_answers)
    (row,) = probes.known(editor, [], 9, pairs=lambda: pairs).to_dict("records")
    assert not row["knows"] and row["opened"] and row["nll"] > row["nll_before"] and row["agreement"] < 1
    editor.base_answers.clear()
    assert probes.known(untouched, [FACT], 9, pairs=lambda: pairs).empty  # what the stream edits is left out


def test_irrelevant_questions_are_not_the_streams_own(toy_editor):
    editor = toy_editor()
    editor.edit(FACT.prompt, FACT.target)
    prompts = [FACT.irrelevant, FACT.prompt, "Name a river in Peru.", "Who wrote the song?"]
    table = probes.irrelevant(editor, [FACT], 9, prompts=lambda: prompts)
    assert table.prompt.tolist() == prompts[1:] and table.overlap[0] == 1
    assert probes.irrelevant(editor, [FACT], 1, prompts=lambda: prompts).prompt.tolist() == prompts[3:]


def test_what_ships_is_fixed_and_well_formed():
    text, table = probes.paragraphs(), pd.read_csv(probes.ABILITY / "choices.csv")
    assert len(text) == 40 and all(first.endswith(".") and len(rest) > 100 for first, rest in text)
    assert len(table) == 60 and (table.right != table.wrong).all() and table.prompt.is_unique
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in probes.ABILITY.iterdir()}
    assert digests == {  # results hold for these
        "choices.csv": "a498e0e421189ac3",
        "contexts.txt": "b37b703f52bdc8cd",
        "exchanges.csv": "736071f048bfd002",
        "text.txt": "6bc73bdf9031817e",
    }


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for module, name in ((plan, "PARAMS"), (files, "RESULTS"), (files, "WORK")):
        monkeypatch.setattr(module, name, tmp_path / name)
    plan.PARAMS.mkdir()
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path))
    return plan.PARAMS / "laptop.yaml"


def test_a_stream_keeps_what_its_probes_found(folders, toy_editor, monkeypatch):
    entry = "streams: {x/one: {dataset: openfacts, at: [1, 2], generated: 0, probes: {PROBES}}}"
    folders.write_text(entry.replace("PROBES", "text: 2, irrelevant-openfacts: 3"))
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor())
    monkeypatch.setattr(plan.presets, "settings", lambda *_: dict(layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4))
    (planned,) = plan.planned("laptop").values()
    path = plan.run(planned)
    result = json.loads(path.read_text())
    assert result["parameters"]["probes"] == {"text": 2, "irrelevant-openfacts": 3}
    text, overlaps = (pd.read_parquet(path.with_name(f"one-{name}.parquet")) for name in planned.probes)
    assert text.n_edits.tolist() == [1, 1, 2, 2] and overlaps.n_edits.tolist() == [1] * 3 + [2] * 3
    assert set(pd.DataFrame(result["metrics"]).metric) == {*LOCALITIES, "reliability", "generalization", "average"}
    monkeypatch.setattr(plan, "make", None)
    assert plan.run(planned) == path  # finished, so no model
    folders.write_text(entry.replace("PROBES", "text: 3, irrelevant-openfacts: 3"))
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor())
    path = plan.run(next(iter(plan.planned("laptop").values())))
    assert len(pd.read_parquet(path.with_name("one-text.parquet"))) == 6


def test_a_stream_without_probes_is_described_as_before(folders, toy_editor):
    stream = runs.Stream("laptop", "x", "one", "openfacts", (1,), generated=0)
    result = json.loads(runs.run_stream(stream, toy_editor()).read_text())
    assert set(result["parameters"]) == {"stream", "method", "editor", "unit"}


def test_unknown_probes_and_missing_data_are_seen_beforehand(folders, monkeypatch):
    folders.write_text("streams: {x/one: {dataset: openfacts, at: [2], probes: {knwon: 3}}}")
    with pytest.raises(ValueError, match=r"asks for \['knwon'\]; probes are"):
        plan.planned("laptop")
    folders.write_text("streams: {x/one: {dataset: openfacts, at: [2], probes: {known-questions: 3}}}")
    (planned,) = plan.planned("laptop").values()
    monkeypatch.setenv("MEMOIR_DATA", str(folders.parent))
    assert not plan.has_data(planned)
