"""What notebook 02 measures: its verdicts turn when the numbers do, and its measurements mean what they say."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import shelves

from memoir import plots, tophash
from memoir.facts.record import EditRecord
from memoir.lab.experiments.masks import frames as mask_frames, interference, law_plots, real_masks
from memoir.theory import capacity, overlap

PROMPTS = ["The capital of Peru is", "Who wrote it?", "Name a river.", "Water boils at", "The capital of Chad is"]
RECORDS = [
    EditRecord(id=str(i), subject="x", prompt=prompt, target=target, relation="r")
    for i, (prompt, target) in enumerate(zip(PROMPTS, ["Rome", "Anna", "Don", "noon", "Oslo"], strict=True))
]

# numbers of pairs


def test_a_histogram_is_described_as_its_pairs_are():
    k, shares = 4, np.array([0, 1, 1, 2, 2, 2, 4]) / 4
    found = overlap.describe(np.bincount((shares * k).astype(int)), k, tau=0.5)
    assert (found["pairs"], found["mean"], found["sd"]) == (
        7,
        pytest.approx(shares.mean()),
        pytest.approx(shares.std()),
    )
    assert found["at_tau"] == pytest.approx(4 / 7)
    x, above = overlap.survival(np.bincount((shares * k).astype(int)), k)
    assert above == pytest.approx([(shares >= share).mean() for share in x])


def test_the_area_is_the_chance_that_the_right_one_wins():
    right, wrong = np.array([0.9, 0.5, 0.4]), np.array([0.5, 0.1])
    points, area = overlap.roc(right, wrong)
    assert area == pytest.approx(np.mean([(r > w) + (r == w) / 2 for r in right for w in wrong]))
    assert points[0, 1:] == pytest.approx([0, 0]) and points[-1, 1:] == pytest.approx([1, 1])
    for tau, true_rate, false_rate in points:
        assert (true_rate, false_rate) == ((right >= tau).mean(), (wrong >= tau).mean())


def test_a_simulation_agrees_with_the_law_it_is_put_beside():
    found, counts = overlap.simulate(200, 40, 160, seed=0)
    assert counts.sum() == found["pairs"] == 200 * 199 // 2
    assert found["mean"] == pytest.approx(found["law_mean"], abs=0.005)
    assert found["p"] > 1e-4 and abs(found["most"] - found["law_most"]) < 6 * found["law_most_sd"]


def test_pairs_are_counted_by_their_kind():
    rng = np.random.default_rng(0)
    stored, other = (np.argsort(rng.random((n, 30))) < 8 for n in (6, 3))
    asked = {"rephrasing": stored[:4], "irrelevant": other}
    found = real_masks.pair_histograms(stored, asked, ["a", "a", "b", "b", "b", "c"])
    pairs = {kind: counts.sum() for kind, counts in found.items()}
    assert pairs == {"same template": 4, "unrelated": 11, "rephrasing": 4, "irrelevant": 18}
    assert found["rephrasing"][-1] == 4 and len(found["rephrasing"]) == 9  # masks of themselves share all 8
    assert found["irrelevant"] @ np.arange(len(found["irrelevant"])) == (other[:, None] & stored).sum()
    assert "same template" not in real_masks.pair_histograms(stored, asked, None)


def test_the_best_match_is_the_routers(toy_editor):
    editor = toy_editor()
    for prompt in [*PROMPTS, PROMPTS[0]]:  # the first prompt is stored twice: the later one answers
        editor.edit(prompt, "Rome")
    stored, asked = editor.masks([*PROMPTS, PROMPTS[0]]).numpy(), editor.masks([*PROMPTS, "How far is it?"]).numpy()
    best = real_masks.best_matches(asked, stored, [2, 6])
    last = best[best.N == 6]
    editor.memory.set_threshold(0.0)
    routes = editor.route([*PROMPTS, "How far is it?"])
    assert last.edit.tolist() == [route.edit for route in routes]
    assert (last["count"] / 24).tolist() == pytest.approx([route.overlap for route in routes])
    assert last.edit.iloc[0] == 5 and (best[best.N == 2].edit < 2).all()
    for rate in (0.0, 0.2, 0.5, 1.0):
        threshold = tophash.threshold_for(last["count"].to_numpy(), 24, rate)
        with pytest.raises(ValueError, match="very mask") if threshold > 1 else nullcontext():
            assert threshold == editor.calibrate([*PROMPTS, "How far is it?"], rate)


def test_one_pass_finds_the_features_of_every_layer(toy, tokenizer, toy_editor):
    found = real_masks.activations_at(toy, tokenizer, PROMPTS, [0, 1, 3])
    for layer in (0, 1, 3):
        editor = toy_editor(toy, layer=layer)
        np.testing.assert_allclose(found[layer], editor.features(PROMPTS).numpy(), rtol=1e-4, atol=1e-5)
        centred = real_masks.top_k(found[layer] - editor.memory.mu.numpy(), 24)
        moved = editor.masks(PROMPTS).numpy()[:, editor.memory.permutation.numpy()]
        assert (centred == moved).mean() > 0.99  # rounding may swap near ties
        editor.detach()


def test_permuted_masks_pass_what_random_columns_pass():
    rng = np.random.default_rng(3)
    size = np.exp(rng.standard_normal(400))  # uneven columns, the same for all prompts
    last = size * (rng.standard_normal((300, 400)) + 0.5)
    table = real_masks.masked_geometry(last, real_masks.top_k(last.astype(np.float32), 100), seed=0).set_index("masks")
    assert table.norm["no mask"] == pytest.approx(1.0) and table.norm["top-k in place"] > 0.8
    assert table.norm["top-k moved by π"] < 0.7 and table.norm["random columns"] == pytest.approx(0.5, abs=0.05)
    assert table.beta["random columns"] < table.beta["no mask"] / 2


# interference


def test_disturbances_are_those_of_the_memory_itself(toy_editor):
    editor = toy_editor(weight_decay=0.0)
    pairs, edits = interference.measure(editor, RECORDS)
    assert len(pairs) == 10 and len(edits) == 5
    assert (pairs.moved <= pairs.norm * pairs.projected * (1 + 1e-4)).all()
    assert (pairs.projected <= edits.length.to_numpy()[pairs.i] * (1 + 1e-6)).all()
    for _, moved in pairs.groupby("i"):
        assert moved.drift.iloc[-1] <= capacity.drift_bounds(moved.norm, moved.projected)[0] * (1 + 1e-4)
    again, weights = toy_editor(weight_decay=0.0), []
    for record in RECORDS[:2]:
        again.edit(record.prompt, record.target)
        weights.append(again.memory.weight.clone())
    u = interference.rows_of_edit(again, RECORDS[0])[1] * again.masks(PROMPTS[:1])[0]
    assert edits.own[0] == pytest.approx((weights[0] @ u).norm().item(), rel=1e-4)
    assert pairs.moved[0] == pytest.approx(((weights[1] - weights[0]) @ u).norm().item(), rel=1e-4)
    assert pairs.drift[0] == pytest.approx(pairs.moved[0])
    assert edits.end.iloc[-1] == pytest.approx(edits.after.iloc[-1])  # nothing came after the last
    with pytest.raises(ValueError, match="weight_decay = 0"):
        interference.measure(toy_editor(weight_decay=1e-5), RECORDS)
    with pytest.raises(ValueError, match="fresh editor"):
        interference.measure(editor, RECORDS)


def test_the_walk_of_leads_finds_its_planted_rate():
    rng = np.random.default_rng(0)
    after = np.full(4000, 3.0)
    later = np.arange(len(after) - 1, -1, -1)
    end = after + 0.1 * np.sqrt(later) * rng.standard_normal(len(after))
    rate = capacity.walk_rate(after, end)
    assert rate == pytest.approx(0.1, rel=0.05)
    assert capacity.walk_reliability(len(after), after, rate) == pytest.approx((end > 0).mean(), abs=0.02)


def test_margins_are_shares_of_what_was_added():
    assert capacity.margins([-3, 2, -3, -1], [1, 3, -1, 0]).tolist() == [0.25, 1.0, 0.0, 0.0]


def test_streams_are_found_among_the_results(tmp_path, monkeypatch):
    from memoir.lab.evidence import files, plan

    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setattr(plan, "PARAMS", tmp_path)
    of = "{dataset: openfacts, at: [1, 10]}"
    (tmp_path / "full.yaml").write_text(
        f"streams: {{lasting/a: {of}, lasting/b: {{dataset: openfacts, at: [1, 10], method: grace}}, search/c: {of}}}"
    )
    assert list(mask_frames.committed_streams("full")) == []
    rows = [{"metric": m, "protocol": "teacher-forced", "mean": 0.9, "low": 0.8, "high": 1.0, "n": 5, "n_edits": n}
            for m in ("reliability", "locality") for n in (10, 1)]  # fmt: skip
    for planned in plan.planned("full").values():
        tables = {name: pd.DataFrame({"n_edits": [1]}) for name in planned.tables}
        files.write_result(planned.result, rows, {"method": planned.method}, {}, tables)
    ((label, found),) = mask_frames.committed_streams("full")
    assert label == "lasting / a" and found.n_edits.tolist() == [1, 10] and isinstance(found, pd.DataFrame)


def test_an_editor_moves_the_answers_of_earlier_edits_less(toy_editor):
    """‖ΔW u‖ of a second edit at the first one's keys, over that at its own, falls with λ."""
    moved = {}
    plain = {"weight_decay": 0.0}
    rls = plain | {"update": "rls"}
    for name, options in {"sgd": plain, "10": rls, "0.001": rls | {"ridge": 1e-3}}.items():
        editor = toy_editor(k=48, **options)
        first, second = (interference.rows_of_edit(editor, record)[0] for record in shelves.RECORDS[:2])
        mask = editor.edit(shelves.RECORDS[0].prompt, shelves.RECORDS[0].target).mask
        before = editor.memory.weight.clone()
        own = editor.edit(shelves.RECORDS[1].prompt, shelves.RECORDS[1].target).mask
        change = editor.memory.weight - before
        moved[name] = ((change @ (first * mask).T).norm() / (change @ (second * own).T).norm()).item()
        editor.detach()
    assert moved["0.001"] < 0.2 * moved["sgd"] and moved["0.001"] < moved["10"] < moved["sgd"]


def test_measured_streams_say_where_they_come_to_true_answers():
    law = pd.DataFrame({"model": "random walk", "N": [1, 100], "reliability": [1.0, 0.5]})
    stream = pd.DataFrame({"n_edits": [10, 2000], "mean": [1.0, 0.8], "targets": ["false", "false and true"]})
    (axes,) = law_plots.capacities(law, {"one": stream, "plain": stream.drop(columns="targets")}, 0.9).axes
    assert axes.get_legend_handles_labels()[1] == ["one", plots.MIXED, "plain"]
