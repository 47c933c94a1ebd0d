"""What notebook 12 measures means what it says: protection by λ and rank, and the ways of routing."""

import numpy as np
import pandas as pd
import pytest
import torch
from planted_records import RECORDS

from memoir import tophash, update
from memoir.lab.experiments.beyond import frames as beyond, routing
from memoir.lab.experiments.beyond.routing import KINDS, Way
from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.routing import gate

PROTOCOLS = (TEACHER_FORCED, GENERATED)


def test_protection_grows_as_lambda_falls_and_as_the_rank_rises(toy_editor):
    keys = beyond.keys_of(toy_editor(k=48), RECORDS[:6])
    table = beyond.protection(keys, 2, [1e-3, 1.0, 1e6], [None, 1])
    moved = table.set_index(["ridge", "rank"]).moved
    size, paper = keys[0][1].numel(), moved.iloc[0]
    assert table.ridge[0] == np.inf and table.used[0] == pytest.approx(0, abs=1e-9)
    assert moved[1e-3, size] < moved[1.0, size] < moved[1e6, size] == pytest.approx(paper, rel=1e-2)
    assert moved[1e-3, size] < moved[1e-3, 1] and table.used.max() <= size


def test_protection_is_what_a_write_does(toy_editor):
    """One write with a random gradient, many times over: the root mean square is the number in the table."""
    editor = toy_editor(k=48, update="rls", weight_decay=0.0, ridge=0.5)
    (first, other), (own, mask) = beyond.keys_of(editor, RECORDS[:2])
    expected = beyond.protection([(first, other), (own, mask)], 1, [0.5]).moved[1]
    editor.projector.add(first, other)
    change = torch.zeros(4000, len(mask))
    write = update.DualUpdate(editor.projector, change, [(own, mask)], lr=1.0, weight_decay=0.0)
    write.step(torch.randn(len(own), 4000, generator=torch.Generator().manual_seed(0)))
    write.store()
    there = (change[:, other] @ first.T).square().mean().sqrt()
    here = (change[:, mask] @ own.T).square().mean().sqrt()
    assert (there / here).item() == pytest.approx(expected, rel=0.05)


@pytest.fixture
def asked():
    return routing.questions(RECORDS, [], len(RECORDS))


def test_questions_belong_to_their_edits_and_none_is_stored_already(asked):
    assert [len(asked[kind]) for kind in KINDS] == [10, 10, 10, 10, 0]
    assert all(RECORDS[i].prompt == prompt for i, prompt in asked["edited"])
    stored = {prompt for _, prompt in asked["edited"]}
    assert not stored & {prompt for kind in KINDS[1:] for _, prompt in asked[kind]}


def test_distinguishing_words_are_those_that_neighbours_lack(asked):
    prompts = [prompt for _, prompt in asked["edited"]]
    overlaps = np.array([[0.9 if a.relation == b.relation else 0.1 for a in RECORDS] for b in RECORDS])
    nearest = np.argsort(np.eye(len(RECORDS)) - overlaps, axis=1, kind="stable")[:, : gate.NEAREST]
    questions = ["What is Peru's capital?", "The capital of Cuba is", "the MONEY of fiji", prompts[3]]
    shares = gate.DistinguishingWords(prompts, nearest).shares(questions)
    has = shares > 0.5
    assert has[0].nonzero()[0].tolist() == [0, 5]  # Peru, in either template: the mask must decide
    assert not has[1].any()  # every word but the one that tells
    assert has[2].nonzero()[0].tolist() == [3, 8] and shares[3, 3] == pytest.approx(1.0)
    twice = gate.DistinguishingWords([prompts[0]] * 5, np.array([[1, 2, 3]] * 5)).shares([prompts[0]])
    assert twice == pytest.approx(1.0)  # the same prompt again is judged by all its words
    alone = gate.DistinguishingWords(prompts[:1], np.array([[-1, -1, -1]])).shares([prompts[0], "Who?"])
    assert alone.ravel() == pytest.approx([1.0, 0.0])  # without neighbours every word tells
    wordless = gate.DistinguishingWords(["?!", "Oslo"], np.array([[1, -1, -1], [0, -1, -1]])).shares(["?!", "Oslo"])
    assert wordless.tolist() == [[1.0, 0.0], [1.0, 1.0]]  # the mask alone must decide on a prompt without words


def test_the_first_way_is_the_routers(toy_editor, asked):
    editor = toy_editor(threshold=0.6)
    for record in RECORDS:
        editor.memory.store(tophash.pack(editor.masks([record.prompt])))
    asked["irrelevant"] = [(-1, "I")]
    found = routing.features(editor.model, editor.tokenizer, editor.config.layer, asked)
    for sets in found.values():
        assert set(sets) == set(KINDS)
    mean = {kind: own + 0 for kind, own in found["mean"].items()}
    shift = editor.features([prompt for _, prompt in asked["edited"]]).numpy() - mean["edited"]
    assert np.abs(shift - shift[0]).max() < 1e-4  # the same feature, up to the μ that is taken off
    exact = {kind: own + (shift[0] - editor.memory.mu.numpy()) for kind, own in mean.items()}
    way = routing.ways({"mean": exact, "rare": found["rare"], "last": found["last"]}, asked, editor.config.k)
    best, score = routing.matches(way["masks (the paper)"], 0.0)["rephrasing"]
    for route, edit, overlap in zip(editor.route([p for _, p in asked["rephrasing"]]), best, score, strict=True):
        assert route.overlap == pytest.approx(overlap, abs=2 / 24)
        assert route.edit in (edit, None) or abs(route.overlap - overlap) > 0


def test_the_frontier_keeps_its_limits_and_rates_count_what_they_say():
    rng = np.random.default_rng(0)
    score = {kind: rng.random((30, 8)) for kind in KINDS}
    score["edited"] = np.eye(8) + rng.random((8, 8)) * 0.5
    asked = {kind: [(i % 8, "") for i in range(len(own))] for kind, own in score.items()}
    for words in (None, {kind: rng.random(own.shape) for kind, own in score.items()}):
        way = Way(score, words)
        table = routing.frontier(way, asked, irrelevant=0.2)
        assert (table["near neighbour"] <= table.limit).all() and (table.irrelevant <= 0.2).all()
        assert table.own.is_monotonic_increasing
        for row in table.itertuples():
            again = routing.rates(routing.matches(way, row.sigma), asked, row.tau)
            assert again["own"] == row.own and 0 <= again["other"] <= 1 - again["own"]


def test_the_comparison_again_keeps_its_parts_apart(monkeypatch):
    asked = [(update, n, protocol) for update in beyond.AGAIN for n in (1, 3) for protocol in PROTOCOLS]
    rows = pd.DataFrame(asked, columns=["update", "n_edits", "protocol"]).assign(metric="reliability")
    means = rows["update"].map({"sgd": 0.8, "rls": 0.9, "gate": 0.7, "both": 0.95})
    rows = rows.assign(stream="again-" + rows.pop("update"), mean=means, low=means - 0.02, high=means + 0.02)
    found = pd.concat([rows, rows.assign(stream="rls-zsre", mean=0.1)])
    monkeypatch.setattr(beyond, "by_edits", lambda profile, experiment: found)
    parts = list(beyond.AGAIN.values())
    assert beyond.again()[["n_edits", *parts]].values.tolist() == [[n, 0.8, 0.7, 0.9, 0.95] for n in (1, 3)]
    assert beyond.again()["± rls"].tolist() == pytest.approx([0.02, 0.02])
    monkeypatch.setattr(beyond, "by_edits", lambda profile, experiment: found[found.stream == "again-rls"])
    assert list(beyond.again()) == ["n_edits", "metric", "rls", "± rls"]
    monkeypatch.setattr(beyond, "by_edits", lambda profile, experiment: rows[:0])
    assert beyond.again().empty


def test_generalization_is_told_apart_by_how_often_a_subject_is_edited():
    subjects = pd.Series({"a": "Rome", "b": "Oslo", "c": "Rome"})
    asked = [(2, "a", 1.0, "own edit"), (2, "b", 0.5, "other edit"),
             (3, "a", 0.0, "other edit"), (3, "b", 0.5, "own edit"), (3, "c", 0.5, "own edit")]  # fmt: skip
    rows = pd.DataFrame(asked, columns=["n_edits", "record", TEACHER_FORCED, "route"]).assign(metric="generalization")
    rows = pd.concat([rows, rows.assign(metric="reliability", **{TEACHER_FORCED: 9.0})])
    found = beyond.edited_once(rows, subjects)
    assert found[["n_edits", "edited", "share"]].values.tolist() == [
        [2, "once", 1.0], [3, "once", 1 / 3], [3, "more than once", 2 / 3]
    ]  # fmt: skip
    assert found.generalization.tolist() == [0.75, 0.5, 0.25] and found.routed.tolist() == [0.5, 1.0, 0.5]  # by hand
