"""UltraEdit keeps to its equations: features, running moments, the closed form, turns of several edits."""

import numpy as np
import pytest
import torch
from conftest import toy_model

import memoir
from memoir import texts
from memoir.baselines import ultraedit
from memoir.baselines.finetune import model_loss
from memoir.baselines.ultraedit import UltraEdit
from memoir.queryable import Edit

EDITS = (
    Edit("What is the capital of France?", "Lyon"),
    Edit("The boiling point of water is", "ninety-one degrees"),
    Edit("Who wrote the song that everybody knows?", "Nobody in particular did"),
)
MAPS = ("mlp.gate_proj", "mlp.down_proj")


@pytest.fixture
def make(tokenizer):
    made = []

    def make(model=None, **options) -> UltraEdit:
        made.append(UltraEdit(model or toy_model(), tokenizer, **dict(layers=(1, 2), maps=MAPS, lr=1e-3) | options))
        return made[-1]

    yield make
    for editor in made:
        editor.detach()


def rows_of(editor: UltraEdit, edits) -> texts.Rows:
    befores = [texts.prompt_ids(editor.tokenizer, edit.prompt) for edit in edits]
    return editor._rows(befores, [texts.target_ids(editor.tokenizer, *edit) for edit in edits])


def test_the_change_is_that_of_a_dense_solver_whichever_system_is_smaller():
    rng = np.random.default_rng(0)
    for n, D in ((5, 20), (20, 20), (40, 20)):
        H, V, ridge = rng.normal(size=(n, D)), rng.normal(size=(n, 6)), 0.7
        stacked = np.vstack([H, np.sqrt(ridge) * np.eye(D)])
        dense = np.linalg.lstsq(stacked, np.vstack([V, np.zeros((D, 6))]), rcond=None)[0].T
        found = ultraedit.ridge_shift(torch.from_numpy(H), torch.from_numpy(V), ridge)
        np.testing.assert_allclose(found.numpy(), dense, atol=1e-10)


def test_moments_of_all_turns_are_those_of_the_whole_sequence_at_once():
    rng = torch.Generator().manual_seed(0)
    whole = 5 + 1e-3 * torch.randn(60, 7, generator=rng, dtype=torch.float64)
    whole[:, 2] = 0.1  # a feature that never varies
    moments, seen = ultraedit.no_moments(7), 0
    for size in (1, 4, 1, 30, 24):
        moments, seen = ultraedit.merged(moments, whole[seen : seen + size]), seen + size
        torch.testing.assert_close(moments.mean, whole[:seen].mean(dim=0), atol=1e-13, rtol=0)
        if seen > 1:
            torch.testing.assert_close(moments.squares / (seen - 1), whole[:seen].var(dim=0), atol=1e-15, rtol=1e-9)
        else:
            assert not ultraedit.normalised(whole[:1], moments).any()  # of a single feature nothing is left
    z = ultraedit.normalised(whole, moments)
    kept = [i for i in range(7) if i != 2]
    torch.testing.assert_close(z[:, kept].std(dim=0), torch.ones(6, dtype=torch.float64), atol=2e-4, rtol=0)
    assert z.mean(dim=0).abs().max() < 1e-9 and z[:, 2].abs().max() < 1e-6 and moments.count == 60


def test_a_position_asks_for_a_change_against_its_gradient_as_long_as_its_input_is_unusual():
    H, G = torch.tensor([[1.0, 3.0], [3.0, 3.0], [2.0, 6.0]]), torch.tensor([[2.0], [-2.0], [0.0]])
    moments = ultraedit.merged(ultraedit.no_moments(3), torch.cat([H, G], dim=1))
    h = (H - H.mean(dim=0)) / H.std(dim=0)
    expected = -0.1 * (h**2).sum(dim=1, keepdim=True) * G / 2.0  # G has mean 0 and standard deviation 2
    torch.testing.assert_close(ultraedit.wanted(H, G, moments, 0.1).float(), expected)


@pytest.mark.parametrize("tokens", ultraedit.TOKENS)
def test_features_are_the_maps_inputs_and_the_gradients_of_its_output_where_the_target_is_predicted(make, tokens):
    editor = make(tokens=tokens)
    rows = rows_of(editor, EDITS)  # of three lengths: padding must not count
    losses, found = editor._features(rows)
    alone = [editor._features(rows_of(editor, [edit])) for edit in EDITS]
    torch.testing.assert_close(losses, torch.cat([own for own, _ in alone]))
    for name in editor._maps:
        for part in (0, 1):
            torch.testing.assert_close(
                found[name][part], torch.cat([one[name][part] for _, one in alone]), atol=1e-4, rtol=1e-4
            )
    edit, seen = EDITS[1], []
    n_prompt = len(texts.prompt_ids(editor.tokenizer, edit.prompt))
    handle = editor.model.get_submodule(editor._maps[0]).register_forward_pre_hook(
        lambda _m, args: seen.append(args[0])
    )
    total = model_loss(editor.model, rows_of(editor, [edit]), "none").sum()
    handle.remove()
    h, g = alone[1][1][editor._maps[0]]
    torch.testing.assert_close(h, seen[0][0, (0 if tokens == "all" else n_prompt - 1) : -1].detach())
    if tokens == "all":  # no other position has a gradient: together they make that of the weight
        weight = editor.weights[f"{editor._maps[0]}.weight"]
        torch.testing.assert_close(g.T @ h, torch.autograd.grad(total, weight)[0], atol=1e-4, rtol=1e-4)


def test_a_turn_is_one_closed_form_change_of_each_map_with_moments_over_all_turns(make):
    editor = make()
    editor.edit(*EDITS[2])
    before = {name: weight.detach().clone() for name, weight in editor.weights.items()}
    moments = dict(editor._moments)
    _, found = editor._features(rows_of(editor, EDITS[:2]))
    results = editor._edit_some(EDITS[:2])
    for name in editor._maps:
        h, g = (part.double().numpy() for part in found[name])
        z = np.hstack([h, g])
        old = moments[name]
        n, N = len(z), old.count.item()
        mean = (N * old.mean.numpy() + z.sum(axis=0)) / (N + n)
        second = old.squares.numpy() + N * old.mean.numpy() ** 2 + (z**2).sum(axis=0) - (N + n) * mean**2
        z = (z - mean) / (np.sqrt(second.clip(0) / (N + n - 1)) + 1e-7)
        V = -1e-3 * (z[:, : h.shape[1]] ** 2).sum(axis=1, keepdims=True) * z[:, h.shape[1] :]
        dense = np.linalg.solve(h.T @ h + np.eye(h.shape[1]), h.T @ V).T
        change = (editor.weights[f"{name}.weight"].detach() - before[f"{name}.weight"]).numpy()
        assert np.abs(dense).max() > 1e-5
        np.testing.assert_allclose(change, dense, atol=1e-4 * np.abs(dense).max() + 1e-6)
    assert [result.steps for result in results] == [1, 1] and editor.log[1]["seconds"] == editor.log[2]["seconds"]
    assert [result.index for result in results] == [1, 2]
    for edit, result in zip(EDITS, results, strict=False):
        assert result.loss == pytest.approx(-editor.score(*zip(edit, strict=True))[0].log_probs.mean().item(), rel=1e-4)


def test_one_by_one_and_in_turns_differ_by_what_was_written_between_alone(make):
    still = {batch: make(lr=1e-30) for batch in (1, 2, 3)}
    records = memoir.load_records("openfacts-calibration", 3)
    for batch, editor in still.items():
        editor.edit_all(records, batch=batch)
    for name in still[1]._maps:  # nothing was written: the moments are the same whatever the turns
        for part, other in zip(still[1]._moments[name], still[3]._moments[name], strict=True):
            torch.testing.assert_close(part, other, atol=1e-4, rtol=1e-4)
    single, together = make(), make()
    single.edit(*EDITS[0])
    together._edit(EDITS[:1])
    assert all(torch.equal(one, together._tensors()[name]) for name, one in single._tensors().items())
    single.edit(*EDITS[1])
    together._edit(EDITS[1:2])
    apart, turn = make(), make()
    [apart.edit(*edit) for edit in EDITS]
    turn._edit(EDITS)
    assert not all(torch.equal(one, turn._tensors()[name]) for name, one in apart._tensors().items())


def test_a_turn_is_resumed_bit_for_bit_and_the_moments_with_it(make, tmp_path):
    records = memoir.load_records("openfacts-calibration", 6)
    whole, cut, resumed = make(), make(), make()
    whole.edit_all(records, batch=2)
    cut.edit_all(records[:4], batch=2, checkpoint=tmp_path, every=2)
    assert len(resumed.edit_all(records, batch=2, checkpoint=tmp_path, every=2)) == 2
    assert resumed._moments[resumed._maps[0]].count > 0 and len(resumed.edits_table()) == 6
    for key, tensor in whole._tensors().items():
        assert torch.equal(tensor, resumed._tensors()[key]), key


def test_a_turn_that_fails_leaves_weights_and_moments_as_they_were(make, monkeypatch):
    editor = make()
    editor.edit(*EDITS[1])
    before = {name: tensor.clone() for name, tensor in editor._tensors().items()}
    monkeypatch.setattr(ultraedit, "ridge_shift", lambda H, V, ridge: torch.full((V.shape[1], H.shape[1]), torch.inf))
    with pytest.raises(FloatingPointError, match="not stored"):
        editor._edit_some(EDITS)
    assert len(editor.edits) == 1 and not any(handle for handle in editor.model._forward_hooks)
    assert all(torch.equal(tensor, editor._tensors()[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(dict(maps=("mlp.luck",)), "no linear maps.*gate_proj"), (dict(maps=("mlp",)), "no linear maps"),
     (dict(ridge=0.0), "above 0"), (dict(tokens="some"), "target, all"), (dict(layers=(4,)), "layer"),
     (dict(lr=0.0), "lr")],
)  # fmt: skip
def test_a_setting_that_is_out_of_range_is_refused_and_leaves_the_model_free(make, wrong, said):
    model = toy_model()
    with pytest.raises(ValueError, match=said):
        make(model, **wrong)
    make(model)
