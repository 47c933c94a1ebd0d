"""Several edits at once: the joint write is the dense one, edits leave it when they settle, all are kept as ever."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import toy_model
from hypothesis import given, strategies as st
from shelves import RECORDS, assert_same_state

from memoir import Memoir, texts, update as updates, write as joint
from memoir.baselines import METHODS
from memoir.edited import together
from memoir.frozen import replaced, run_tail
from memoir.queryable import Edit

CPU = torch.device("cpu")
RLS, SGD, DECAYING = {"update": "rls", "weight_decay": 0.0}, {"weight_decay": 0.0}, {"weight_decay": 1e-2}
UPDATES = pytest.mark.parametrize("options", [RLS, SGD, DECAYING], ids=["rls", "sgd", "decaying"])
EDITS = [Edit(record.prompt, record.target) for record in RECORDS]
# of several lengths, so that rows are padded, and learnt at different steps
UNLIKE = [
    Edit("Where is it?", "here"), EDITS[0], Edit("The river that flows through the old town is called the", "Aare"),
    Edit("Who wrote the song that everybody sang at the end of that summer?", "Nobody knows it any more"),
]  # fmt: skip
SETTLING = {"n_iter": 12, "lr": 4.0, "stop_loss": 10.65, "stop_change": None}  # a toy model learns nothing more


@UPDATES
def test_a_batch_of_one_is_that_edit(toy_editor, options):
    one, other = toy_editor(**options), toy_editor(**options)
    ((losses, steps, mask, _),) = one._edit(EDITS[:1])
    (found,) = other.edit_all(RECORDS[:1], batch=8)
    assert found.losses == losses and found.steps == steps and torch.equal(mask, found.mask)
    torch.testing.assert_close(one.memory.weight, other.memory.weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("update", "decay"), [("rls", 0.0), ("sgd", 0.0), ("sgd", 1e-2)])
def test_a_joint_write_is_the_dense_form_however_edits_leave(update, decay):
    """With P and every step's ΔW in full, float64, each edit clipped by itself and with a c of its own."""
    rng, size, lr = torch.Generator().manual_seed(1), 60, 0.3
    p, weight = updates.projector(update, size, 0.5, None, CPU), torch.randn(4, size, generator=rng)

    def drawn(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        mask = torch.zeros(size, dtype=torch.bool)
        mask[torch.randperm(size, generator=rng)[:20]] = True
        return torch.randn(rows, 20, generator=rng) + 1, mask

    for _ in range(3):
        p.add(*drawn(3))
    edits = [drawn(rows) for rows in (2, 5, 3)]
    write, dense, before = updates.DualUpdate(p, weight, edits, lr, decay), weight.double(), weight.clone()
    matrix = p.through(torch.eye(size), torch.ones(size, dtype=torch.bool))
    wide = [updates.Identity().through(*edit) for edit in edits]
    c = [torch.trace(u @ u.T) / torch.trace(u @ matrix @ u.T) for u in wide]
    for live, length in (([0, 1, 2], 1e-2), ([0, 1, 2], 10.0), ([0, 2], 1.0), ([2], 10.0), ([0, 1, 2], 1.0)):
        write.keep_only(live)
        expected = torch.cat([wide[edit] for edit in live]) @ dense.T
        torch.testing.assert_close(write.outputs.double(), expected, atol=1e-5, rtol=1e-5)
        gradients = [length * torch.randn(len(wide[edit]), 4, generator=rng) for edit in live]
        write.step(torch.cat(gradients))
        change = decay * dense
        for edit, gradient in zip(live, gradients, strict=True):
            full = gradient.double().T @ wide[edit]
            change = change + full / full.norm().clamp(min=1) @ (c[edit] * matrix)
        dense = dense - lr * change
    assert dense.abs().max() <= write.largest() < torch.inf and torch.equal(weight, before)
    write.store()
    torch.testing.assert_close(weight.double(), dense, atol=1e-5, rtol=1e-5)
    other = updates.projector(update, size, 0.5, None, CPU)
    if update == "rls":  # P is what the edits leave one after the other
        other.restore({"projector": matrix})
        for edit in edits:
            other.add(*edit)
        torch.testing.assert_close(p.matrix, other.matrix, atol=1e-12, rtol=1e-9)


@UPDATES
def test_the_steps_of_a_batch_are_those_of_its_edits_apart_on_one_memory(toy_editor, options):
    """The joint gradient is the sum: each edit's own row, through a tail of its own, all of W_m in the gradient."""
    editor = toy_editor(**options | SETTLING | {"prefixes": ()})
    expected, weight = apart(toy_editor(**options | SETTLING | {"prefixes": ()}), UNLIKE)
    found = editor._edit(UNLIKE)
    assert len({one.steps for one in found}) > 1, "no edit settled before another"
    for (losses, steps, *_), (own, n) in zip(found, expected, strict=True):
        assert steps == n and losses == pytest.approx(own, rel=1e-3)
    torch.testing.assert_close(editor.memory.weight, weight, atol=1e-4, rtol=1e-3)


def apart(editor: Memoir, edits: list[Edit]) -> tuple[list[tuple[list[float], int]], torch.Tensor]:
    """Losses and steps of each edit, and W_m, by dense steps down the sum of losses; P = I, with nothing before."""
    how, weight = editor.config, torch.zeros_like(editor.memory.weight)
    masks, losses, steps, live = (
        editor.masks([e.prompt for e in edits]),
        [[] for _ in edits],
        {},
        list(range(len(edits))),
    )
    while live and len(max(losses, key=len)) < how.n_iter:
        change = how.weight_decay * weight
        for i in list(live):
            own = weight.clone().requires_grad_()
            before = texts.prompt_ids(editor.tokenizer, edits[i].prompt)
            rows = editor._rows([before], [texts.target_ids(editor.tokenizer, *edits[i])])
            prefix, (row, column) = editor._frozen(rows), rows.target.nonzero(as_tuple=True)
            with replaced(editor._prepacked), torch.enable_grad():
                delta = (prefix.activations * masks[i]) @ own.T
                logits = run_tail(editor.model, editor.family, how.layer, prefix, delta, row, column - 1)
                loss = torch.nn.functional.cross_entropy(logits, rows.input_ids[row, column])
            losses[i].append(loss.item())
            if len(losses[i]) > 1 and loss.item() <= how.stop_loss:
                live.remove(i)
                steps[i] = len(losses[i]) - 1
                continue
            (gradient,) = torch.autograd.grad(loss, [own])
            change = change + gradient / gradient.norm().clamp(min=1)
        weight = weight - how.lr * change if live else weight
    return [(own, steps.get(i, how.n_iter)) for i, own in enumerate(losses)], weight


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gemma3_text", "gptj", "qwen3", "phi3", "stablelm"])
def test_rows_that_stay_are_answered_as_if_the_others_had_never_been_there(toy_editor, kind):
    """Masks and positions of each architecture follow the rows: a part of the batch has its losses within the whole."""
    editor = toy_editor(toy_model(kind))
    befores = [texts.prompt_ids(editor.tokenizer, edit.prompt) for edit in UNLIKE]
    afters = [texts.target_ids(editor.tokenizer, *edit) for edit in UNLIKE]
    rows = editor._rows(befores, afters)
    whole = joint.Batch(rows, editor._frozen(rows), torch.arange(len(UNLIKE)), range(len(UNLIKE)))
    outputs = torch.randn(len(whole.places[0]), 32, generator=torch.Generator().manual_seed(0))
    layers = editor.model.get_submodule(editor.family.layers)[2:]

    def tail(*given):
        return run_tail(editor.model, editor.family, 1, *given)

    with torch.no_grad():
        expected = whole.losses(tail, outputs)
        for some in ([0], [1, 3], [0, 2, 3]):
            part = whole.of(some)
            own = outputs[torch.isin(whole.places[0], torch.tensor(some))]
            with joint.without_padding(layers, part.frozen.computed_at):
                torch.testing.assert_close(part.losses(tail, own), expected[some], atol=1e-4, rtol=1e-4)


@UPDATES
def test_each_edit_keeps_its_own_and_can_be_forgotten_saved_and_gone_on_from(toy_editor, tmp_path, options):
    options = options | {"threshold": 0.9}
    whole = toy_editor(**options)
    results = whole.edit_all(RECORDS, batch=3)
    assert [result.index for result in results] == list(range(8)) and len({r.seconds for r in results[:3]}) == 1
    assert [route.edit for route in whole.route([edit.prompt for edit in EDITS])] == list(range(8))
    table = whole.edits_table()
    assert whole.edits == EDITS and list(table.steps) == [result.steps for result in results]
    assert list(table.last_loss) == [result.loss for result in results]
    for edit, result in zip(EDITS, results, strict=True):
        assert torch.equal(result.mask, whole.masks([edit.prompt])[0])
    cut = toy_editor(**options)
    cut.edit_all(RECORDS[:6], batch=3, checkpoint=tmp_path, every=2)
    resumed = toy_editor(**options)
    assert len(resumed.edit_all(RECORDS, batch=3, checkpoint=tmp_path)) == 2
    assert_same_state(whole, resumed)
    loaded = Memoir.load(tmp_path, toy_model(), whole.tokenizer)
    assert_same_state(whole, loaded)
    loaded.forget(4)
    routes = [route.edit for route in loaded.route([edit.prompt for edit in EDITS])]
    assert routes[:4] == [0, 1, 2, 3] and routes[4] != 4 and routes[5:] == [5, 6, 7]


def test_a_crash_between_two_batches_ends_in_the_same_state(toy_editor, tmp_path, monkeypatch):
    whole, cut, calls = toy_editor(), toy_editor(), []
    whole.edit_all(RECORDS, batch=3)
    write = cut._edit

    def stopped(edits):
        calls.append(edits)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(edits)

    monkeypatch.setattr(cut, "_edit", stopped)
    with pytest.raises(KeyboardInterrupt):
        cut.edit_all(RECORDS, batch=3, checkpoint=tmp_path, every=100)
    resumed = toy_editor()
    assert len(resumed.edit_all(RECORDS, batch=3, checkpoint=tmp_path)) == 5
    assert_same_state(whole, resumed)


@given(st.lists(st.sampled_from(["a", "a ", "b", "c", "d\n", "d"]), max_size=12), st.integers(1, 5))
def test_a_batch_never_holds_two_edits_of_a_prompt_and_the_order_stays(prompts, size):
    records = [replace(RECORDS[0], id=str(i), prompt=prompt) for i, prompt in enumerate(prompts)]
    batches = list(together(records, size))
    assert [record for some in batches for record in some] == records
    own = [[texts.bare(record.prompt) for record in some] for some in batches]
    assert all(0 < len(some) <= size and len(set(some)) == len(some) for some in own)
    assert all(len(some) == size or after[0] in some for some, after in pairwise(own)), "none ends before it must"


def test_of_two_edits_of_a_prompt_the_later_answers(toy_editor):
    editor = toy_editor()
    twice = [*RECORDS[:2], replace(RECORDS[0], prompt=RECORDS[0].prompt + " ", target="nowhere"), RECORDS[2]]
    with pytest.warns(UserWarning, match="1 of 4 edits replaced"):
        results = editor.edit_all(twice, batch=8)
    assert [result.replaces for result in results] == [None, None, 0, None] and editor.memory.forgotten == [0]
    assert results[0].seconds != results[2].seconds, "two batches"


def test_a_batch_with_a_bad_edit_changes_nothing(toy_editor, monkeypatch):
    editor = toy_editor(**RLS)
    editor.edit_all(RECORDS[:2], batch=2)
    before = {name: tensor.clone() for name, tensor in editor._tensors().items()}
    long = replace(RECORDS[4], prompt="and on " * 3000)
    nan = torch.full((1,), torch.nan)

    def lost(batch, *_):
        return nan.expand(len(batch.edit_of_way)), [bool] * len(batch.edit_of_way)

    broken = {
        "a prompt without end": (lambda patch: None, long, ValueError, "context holds"),
        "a loss that is none": (
            lambda patch: patch.setattr(joint.Batch, "judged", lost),
            RECORDS[4], FloatingPointError, "not stored",
        ),
        "weights beyond all": (
            lambda patch: patch.setattr(updates.DualUpdate, "largest", lambda self: nan[0]),
            RECORDS[4], FloatingPointError, "not stored",
        ),
    }  # fmt: skip
    for spoil, record, error, words in broken.values():
        with monkeypatch.context() as patch, pytest.raises(error, match=words):
            spoil(patch)
            editor.edit_all([RECORDS[2], RECORDS[3], record], batch=3)
        assert editor.edits == EDITS[:2] and len(editor.log) == 2
        for name, tensor in editor._tensors().items():
            assert torch.equal(tensor, before[name]), name


def test_a_question_behind_other_text_and_its_end_are_learnt_in_a_batch_as_alone(toy_editor):
    """Memory acts from the question's last token on, whether what stands before is cached or read with it."""
    edits = [Edit("The shop is shut. Where is the key?", "below"), EDITS[0]]
    for edit in edits:
        one, other = (toy_editor(span="question", end=True, prefixes=(), **SGD) for _ in range(2))
        ((losses, steps, mask, _),) = one._edit([edit])
        ((found, n, own, _),) = other._edit([edit])
        assert found == pytest.approx(losses, rel=1e-3) and n == steps and torch.equal(own, mask)
        torch.testing.assert_close(one.memory.weight, other.memory.weight, atol=1e-4, rtol=1e-3)
    editor = toy_editor(span="question", end=True, threshold=0.9)
    editor._edit(edits)
    assert [route.edit for route in editor.route([edit.prompt for edit in edits])] == [0, 1]


def test_where_several_at_once_are_not_written_it_is_said_beforehand(toy_editor, tokenizer):
    formats = toy_editor(formats=("cue",))
    grace = METHODS["grace"].maker(toy_model(), tokenizer, layer=1)
    for editor, words in ((formats, "without formats"), (grace, "one edit after the other")):
        with pytest.raises(ValueError, match=words):
            editor.edit_all(RECORDS, batch=2)
        assert editor.edits == []
        editor.detach()
    with pytest.raises(ValueError, match="batch = 0"):
        toy_editor().edit_all(RECORDS, batch=0)
