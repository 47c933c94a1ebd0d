"""Recursive least squares: what the update protects, that its state is exact, and that the paper's stays as it was."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from shelves import RECORDS, assert_same_state

from memoir import Memoir, update as updates, write as writing

CPU = torch.device("cpu")
SIZE, ONES = 60, 20
RLS = {"update": "rls", "weight_decay": 0.0}


def mask_of(rng) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[torch.from_numpy(rng.permutation(SIZE)[:ONES])] = True
    return mask


def stream(n: int, rows: int = 3, seed: int = 0, share: float = 2.0):
    """n edits' keys (rows, ONES) with a direction common to all, as real activations have, and their masks."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=SIZE)
    for _ in range(n):
        mask = mask_of(rng)
        yield torch.from_numpy(rng.normal(size=(rows, ONES)) + share * common[mask.numpy()]).float(), mask


def whole(p) -> torch.Tensor:
    """P, as an edit sees it whose keys are the unit vectors."""
    return p.through(torch.eye(SIZE), torch.ones(SIZE, dtype=torch.bool))


def wide(keys: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    full = torch.zeros(len(keys), SIZE, dtype=torch.float64)
    full[:, mask] = keys.double()
    return full


# ---------------------------------------------------------------------------------------------------- P is exact


@pytest.mark.parametrize("rank", [None, SIZE])
def test_the_projector_agrees_with_a_dense_solve(rank):
    p, moment = updates.projector("rls", SIZE, 10.0, rank, CPU), torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for keys, mask in stream(40):
        p.add(keys, mask)
        moment += wide(keys, mask).T @ wide(keys, mask)
        reference = torch.linalg.inv(torch.eye(SIZE) + moment / 10.0)
        torch.testing.assert_close(whole(p), reference, atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(p.through(keys, mask), wide(keys, mask) @ reference, atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("rank", [None, 12])
def test_the_projector_stays_symmetric_and_positive_definite_after_thousands_of_edits(rank):
    p = updates.projector("rls", SIZE, 0.1, rank, CPU)
    for keys, mask in stream(4000, share=5.0):
        p.add(keys, mask)
    matrix = whole(p)
    torch.testing.assert_close(matrix, matrix.T, atol=1e-14, rtol=0)
    values = torch.linalg.eigvalsh(matrix)
    assert 0 < values.min() < 1e-4 and values.max() <= 1 + 1e-12


def test_a_low_rank_is_exact_while_the_keys_span_no_more_and_then_protects_less():
    dense, low = updates.projector("rls", SIZE, 1.0, None, CPU), updates.projector("rls", SIZE, 1.0, 12, CPU)
    for edit, (keys, mask) in enumerate(stream(30), start=1):
        dense.add(keys, mask), low.add(keys, mask)
        gap = torch.linalg.eigvalsh(whole(low) - whole(dense))
        assert gap.min() > -1e-10  # never less room than the exact P has
        assert (gap.max() < 1e-10) == (edit <= 4)  # 4 edits of 3 rows span 12 directions


# ------------------------------------------------------------------------------------------------ what it protects


def test_interference_vanishes_with_lambda_while_the_keys_span_less_than_the_memory():
    *earlier, (own, mask) = stream(11)  # 30 keys in 60 directions, and the edit that is written
    keys = torch.cat([wide(*edit) for edit in earlier]).float()
    gradient = torch.randn(len(own), 5, generator=torch.Generator().manual_seed(0))
    moved = []
    for ridge in (1e9, 1.0, 1e-2, 1e-4, 1e-6):
        p = updates.projector("rls", SIZE, ridge, None, CPU)
        for edit in earlier:
            p.add(*edit)
        change = torch.zeros(5, SIZE)
        write = updates.DualUpdate(p, change, [(own, mask)], lr=1.0, weight_decay=0.0)
        write.step(gradient)
        write.store()
        moved.append(((change @ keys.T).norm() / (change @ wide(own, mask).float().T).norm()).item())
    plain = torch.zeros(5, SIZE)
    plain[:, mask] = -gradient.T @ own
    expected = ((plain @ keys.T).norm() / (plain[:, mask] @ own.T).norm()).item()
    assert moved[0] == pytest.approx(expected, rel=1e-3)  # a large λ is plain gradient descent
    assert all(b < a for a, b in pairwise(moved)) and moved[-1] < 1e-3 * moved[0]


@pytest.mark.parametrize(
    ("update", "decay", "massive"), [("rls", 0.0, 0), ("rls", 0.0, 30), ("sgd", 0.0, 0), ("sgd", 1e-2, 0)]
)
def test_a_write_is_the_dense_form_and_keeps_its_size_on_its_own_tokens(update, decay, massive):
    """With P and every step's ΔW in full, float64: the outputs at each step, all of W_m at the end; clipped, bounded
    or neither. massive: how long a first key is that all edits share, and that no gradient comes through."""
    rng = torch.Generator().manual_seed(1)
    p = updates.projector(update, SIZE, 0.5, None, CPU)
    *earlier, (own, mask) = stream(6)
    if massive:  # under one mask, or the first key would not be the same
        shared = massive * torch.randn(1, ONES, generator=rng)
        *earlier, own = (torch.cat([shared, keys[1:]]) for keys, _ in stream(6))
        earlier = [(keys, mask) for keys in earlier]
    for edit in earlier:
        p.add(*edit)
    weight, bounds = torch.randn(4, SIZE, generator=rng), []
    write, dense, before = updates.DualUpdate(p, weight, [(own, mask)], 0.3, decay), weight.double(), weight.clone()
    u, matrix = wide(own, mask), whole(p)
    c = torch.trace(u @ u.T) / torch.trace(u @ matrix @ u.T)
    assert torch.trace(u @ (c * matrix) @ u.T).item() == pytest.approx(torch.trace(u @ u.T).item())
    for size in (1e-2, 10.0, 1.0, 1e-3):
        torch.testing.assert_close(write.outputs.double(), u @ dense.T, atol=1e-5, rtol=1e-5)
        gradient = size * torch.randn(len(own), 4, generator=rng)
        gradient[: bool(massive)] = 0
        write.step(gradient)
        full = gradient.double().T @ u
        bounds.append((2 * full.norm() ** 2 / torch.trace(full @ (c * matrix) @ full.T)).clamp(max=1).item())
        dense = dense - 0.3 * (bounds[-1] * full / full.norm().clamp(min=1) @ (c * matrix) + decay * dense)
    assert all((bound < 1) == bool(massive) for bound in bounds)
    assert dense.abs().max() <= write.largest() < torch.inf
    assert torch.equal(weight, before) and torch.equal(whole(p), matrix), "nothing is stored before the end"
    write.store()
    torch.testing.assert_close(weight.double(), dense, atol=1e-5, rtol=1e-5)


def test_a_massive_activation_that_earlier_edits_share_does_not_lengthen_the_steps_of_the_others():
    """Each edit's first key is the same and thirty times as long as its others: P leaves nothing of it, so that c by
    the traces alone would make the steps of the others many times too long."""
    p, rng = updates.projector("rls", SIZE, 1.0, None, CPU), np.random.default_rng(0)
    massive, mask = 30 * rng.normal(size=SIZE), torch.ones(SIZE, dtype=torch.bool)
    edits = [torch.from_numpy(np.vstack([massive, rng.normal(size=(2, SIZE))])).float() for _ in range(6)]
    for keys in edits[:-1]:
        p.add(keys, mask)
    u, matrix = edits[-1].double(), whole(p)
    gradient = 0.01 * torch.tensor([[0.0, 0.0], [1.0, 2.0], [-1.0, 1.0]])  # nothing is asked of the first token
    full = gradient.double().T @ u
    traces = torch.trace(u @ u.T) / torch.trace(u @ matrix @ u.T)
    assert traces * torch.trace(full @ matrix @ full.T) > 20 * full.norm() ** 2
    weight = torch.zeros(2, SIZE)
    write = updates.DualUpdate(p, weight, [(edits[-1], mask)], lr=0.5, weight_decay=0.0)
    write.step(gradient)
    write.store()
    assert -(weight.double() * full).sum().item() == pytest.approx(2 * 0.5 * full.norm().item() ** 2, rel=1e-4)


# --------------------------------------------------------------------------------------------- state and refusals


def test_the_first_edit_and_the_losses_of_its_fit_are_the_papers(toy_editor):
    """P = I before anything is stored: up to rounding, rls begins as the paper's update."""
    plain, other = toy_editor(weight_decay=0.0), toy_editor(**RLS)
    a, b = (editor.edit(RECORDS[0].prompt, RECORDS[0].target).losses for editor in (plain, other))
    assert a == pytest.approx(b, rel=1e-5)
    torch.testing.assert_close(plain.memory.weight, other.memory.weight, atol=1e-5, rtol=1e-4)


def test_the_papers_update_is_the_default_and_carries_nothing_new(toy_editor):
    """Whatever is said of P beside it changes no bit of the edits, and nothing more is saved."""
    default, named = toy_editor(), toy_editor(update="sgd", ridge=3.0)
    for record in RECORDS[:3]:
        default.edit(record.prompt, record.target), named.edit(record.prompt, record.target)
    assert torch.equal(default.memory.weight, named.memory.weight)
    assert default._settings() == named._settings() and "update" not in default._settings()
    assert set(default._tensors()) == {"weight", "permutation", "mu", "masks"}


@pytest.mark.parametrize("options", [RLS, {"weight_decay": 0.0}, {"weight_decay": 1e-2}])
def test_edits_in_a_row_are_those_of_the_dense_form(toy_editor, options):
    """Every step's gradient of W_m in full, by a second way: losses, W_m and P after each edit."""
    editor = toy_editor(**options | {"n_iter": 8})
    weight, p = torch.zeros_like(editor.memory.weight), updates.projector("rls", editor.memory.size, 10.0, None, CPU)
    for record in RECORDS[:4]:
        result = editor.edit(record.prompt, record.target)
        weight, losses = dense_edit(editor, record, weight, p if options == RLS else None, result)
        torch.testing.assert_close(result.losses, losses, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(editor.memory.weight, weight, atol=1e-5, rtol=1e-5)
    if options == RLS:
        torch.testing.assert_close(editor.projector.matrix, p.matrix, atol=1e-12, rtol=0)


def dense_edit(editor: Memoir, record, weight: torch.Tensor, p, result) -> tuple[torch.Tensor, list[float]]:
    """W_m after one edit, and the losses: torch's SGD on the masked columns; with P, through its k × k part."""
    from memoir import texts
    from memoir.frozen import replaced, run_tail

    after = texts.target_ids(editor.tokenizer, record.prompt, record.target)
    prompts = [record.prompt, *(f"{prefix}. {record.prompt}" for prefix in editor.prefixes)]
    befores = [texts.prompt_ids(editor.tokenizer, prompt) for prompt in prompts]
    rows = editor._rows(befores, [after] * len(befores))
    prefix, mask = editor._frozen(rows), result.mask
    inside = keys = None
    if p:
        keys = prefix.activations[prefix.computed_at][:, mask]
        inside = p.matrix[mask][:, mask]
        inside = (keys.double().square().sum() / ((keys.double() @ inside) * keys).sum() * inside).float()
    w = weight[:, mask].clone().requires_grad_()
    total, losses = torch.zeros_like(w), []
    masked, (row, column) = prefix.activations[..., mask].float(), rows.target.nonzero(as_tuple=True)
    optimizer = torch.optim.SGD([w], lr=editor.config.lr, weight_decay=editor.config.weight_decay)
    for _ in range(result.steps):
        with replaced(editor._prepacked):
            logits = run_tail(editor.model, editor.family, editor.config.layer, prefix, masked @ w.T, row, column - 1)
        loss = torch.nn.functional.cross_entropy(logits.float(), rows.input_ids[row, column])
        losses.append(loss.item())
        (w.grad,) = torch.autograd.grad(loss, [w])
        torch.nn.utils.clip_grad_norm_([w], 1.0)
        if p:
            ahead = w.grad @ inside
            bound = (2 * w.grad.square().sum() / (w.grad * ahead).sum()).clamp(max=1.0)
            total += bound * w.grad
            w.grad = bound * ahead
        optimizer.step()
    weight = weight * (1 - editor.config.lr * editor.config.weight_decay) ** result.steps
    weight[:, mask] = w.detach()
    if p:
        seen = p.through(keys, mask)
        scale = keys.double().square().sum() / (seen[:, mask] * keys).sum()
        weight[:, ~mask] -= editor.config.lr * (total @ (scale * p.matrix[mask]).float())[:, ~mask]
        p.add(keys, mask)
    return weight, losses


@pytest.mark.parametrize("rank", [None, 40])
def test_a_stream_resumes_bit_for_bit_and_a_saved_editor_goes_on_the_same(toy_editor, tmp_path, rank):
    options = RLS | {"rank": rank}
    whole = toy_editor(**options)
    whole.edit_all(RECORDS)
    cut = toy_editor(**options)
    cut.edit_all(RECORDS[:5], checkpoint=tmp_path, every=2)
    cut.detach()
    resumed = toy_editor(**options)
    assert len(resumed.edit_all(RECORDS, checkpoint=tmp_path)) == 3
    assert_same_state(whole, resumed)
    loaded = Memoir.load(tmp_path, __import__("conftest").toy_model(), whole.tokenizer)
    assert_same_state(whole, loaded)
    for name, tensor in whole.projector.tensors().items():
        assert torch.equal(tensor, resumed.projector.tensors()[name]), name
        assert torch.equal(tensor, loaded.projector.tensors()[name]), name
    assert loaded.edit("And then?", "nothing").losses == whole.edit("And then?", "nothing").losses
    with pytest.raises(ValueError, match="other settings"):
        toy_editor().edit_all(RECORDS, checkpoint=tmp_path)


@pytest.mark.parametrize(("options", "word"), [
    (RLS | {"ridge": 0.0}, "ridge = 0.0"), (RLS | {"ridge": -1.0}, "ridge = -1.0"),
    (RLS | {"ridge": float("nan")}, "ridge = nan"), (RLS | {"ridge": float("inf")}, "ridge = inf"),
    (RLS | {"rank": 0}, "rank = 0"), (RLS | {"rank": 97}, "rank = 97"), ({"update": "adam"}, "'adam'"),
    ({"update": "rls", "weight_decay": 1e-5}, "weight_decay"),
])  # fmt: skip
def test_bad_settings_are_named_and_leave_the_model_alone(toy_editor, options, word):
    model = __import__("conftest").toy_model()
    with pytest.raises(ValueError, match=word):
        toy_editor(model, **options)
    assert "generate" not in vars(model) and not model.base_model._forward_hooks


def test_an_edit_that_fails_leaves_memory_and_projector(toy_editor, monkeypatch):
    editor = toy_editor(**RLS)
    editor.edit(RECORDS[0].prompt, RECORDS[0].target)
    weight, matrix = editor.memory.weight.clone(), editor.projector.matrix.clone()
    for module, name, broken in (
        (writing, "cross_entropy", lambda *_: torch.tensor(torch.nan, requires_grad=True)),
        (updates.DualUpdate, "largest", lambda _: torch.tensor(torch.nan)),
    ):
        with monkeypatch.context() as patch, pytest.raises(FloatingPointError, match="not stored"):
            patch.setattr(module, name, broken)
            editor.edit(RECORDS[1].prompt, RECORDS[1].target)
    assert torch.equal(weight, editor.memory.weight) and torch.equal(matrix, editor.projector.matrix)
