"""What stands before an edit's tokens is read once, with other rows, and makes no difference to what is read behind."""

import gc
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.cache_utils import CacheLayerMixin

from memoir.chat.formats import EARLIER
from memoir.chat.past import MAX_CACHED, positions, read
from memoir.config import FORMATS
from memoir.frozen import run_tail
from memoir.queryable import Edit

FACT = Edit("Where does the old violin hang?", "in a barn")


@torch.no_grad()
def plain_loss(editor, before: list[int], after: list[int], start: int, added: torch.Tensor) -> float:
    """A row's loss in one pass over all of its tokens, where `added` (n, d) comes on top from the token `start` on."""
    edited = editor.model.get_submodule(editor.family.layers)[editor.config.layer].get_submodule(editor.family.edited)

    def add(_module, _args, output):
        return output + torch.nn.functional.pad(added, (0, 0, start, 0))

    handle = edited.register_forward_hook(add, prepend=True)
    try:
        with editor.base():
            logits = editor.model(input_ids=torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
    finally:
        handle.remove()
    return cross_entropy(logits.float(), torch.tensor(after)).item()


def losses(editor, edit: Edit, scale: float = 0.1):
    """The losses of an edit's ways of asking under random outputs: together, each by itself, and in plain passes."""
    batch, tail = editor._prepare_rows([edit]), partial(run_tail, editor.model, editor.family, editor.config.layer)
    outputs = scale * torch.randn(len(batch.places[0]), 32, generator=torch.Generator().manual_seed(0))
    parts = [batch.of([way]) for way in range(len(batch.edit_of_way))]
    shares = outputs.split([len(part.places[0]) for part in parts])
    with torch.no_grad():
        together = batch.losses(tail, outputs).tolist()
        apart = [part.losses(tail, own).item() for part, own in zip(parts, shares, strict=True)]
    plain = [
        plain_loss(editor, before, after, editor._starts(before)[1], own)
        for ((before,), (after,)), own in zip(editor._formats.rows(*edit, editor.prefixes, 0), shares, strict=True)
    ]
    return together, apart, plain


@pytest.mark.parametrize("span", ["question", "prompt"])
def test_every_way_of_asking_has_the_loss_of_a_plain_pass(toy, toy_editor, span):
    editor = toy_editor(toy, span=span, formats=FORMATS, end=True, prefixes=())
    together, apart, plain = losses(editor, FACT)
    assert len(plain) == 3 + len(EARLIER) and max(plain) - min(plain) > 0.005
    torch.testing.assert_close(together, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(apart, plain, rtol=1e-4, atol=1e-4)


def test_texts_before_are_read_once_and_the_first_of_many_go(toy_editor, monkeypatch):
    editor = toy_editor(span="question", formats=["context"], prefixes=())
    expected = losses(editor, FACT)
    assert len(editor._past._cached) == 1
    monkeypatch.setattr(editor._past, "_text", lambda ids: editor._past._cached.get(ids))  # nothing is read again
    torch.testing.assert_close(losses(editor, FACT), expected, rtol=0, atol=0)
    monkeypatch.undo()
    for ids in range(MAX_CACHED + 3):
        editor._past._text((ids + 5,))
    assert len(editor._past._cached) == MAX_CACHED and (5,) not in editor._past._cached


def test_what_was_read_goes_with_its_edit(toy_editor):
    """Caches are large, and Python looks for cycles by counting objects: gigabytes would wait for it."""
    editor = toy_editor(span="question", formats=FORMATS, prefixes=())
    editor.edit(*FACT)
    gc.collect()
    gc.disable()
    try:
        for i in range(3):
            editor.edit(f"Who keeps mill {i}?", "Otto")
        kept = sum(len(text.cache.layers) for text in editor._past._cached.values())
        assert sum(issubclass(type(found), CacheLayerMixin) for found in gc.get_objects()) <= kept
    finally:
        gc.enable()


def test_a_question_of_one_token_beside_rows_that_stand_behind_texts(toy_editor):
    editor = toy_editor(span="question", formats=["cue", "context"], prefixes=())
    together, apart, plain = losses(editor, Edit("Why", "because"))
    torch.testing.assert_close(together, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(apart, plain, rtol=1e-4, atol=1e-4)


def test_with_prefixes_the_memory_acts_from_each_row_s_question_on(toy_editor):
    """As it does when such a row is asked; the rows are one way of asking, and have one loss."""
    editor = toy_editor(span="question", prefixes=("Once upon a time", "He said"))
    batch = editor._prepare_rows([FACT])
    assert list(batch.edit_of_way) == [0] and batch.ways.tolist() == [0, 0, 0]
    assert batch.rows.prompt.sum(dim=1).tolist() == [1, 1, 1]  # the question's last token


def test_padding_takes_no_place(toy_editor):
    """Two texts of unlike length, one of none, and rows behind them: as each by itself."""
    model = toy_editor().model
    texts, rows = [[5, 6, 7, 8], [9], []], [[11, 12], [], [13, 14, 15]]
    behind = read(model, [*texts[:2], [3]])
    both = read(model, rows, behind)
    assert both.real.sum(dim=1).tolist() == [6, 1, 4] and (both.real.diff(dim=1) >= 0).all()
    assert positions(both.real)[2].tolist() == [0, 0, 0, 0, 1, 2, 3]
    for i, whole in enumerate([[5, 6, 7, 8, 11, 12], [9], [3, 13, 14, 15]]):
        alone, here = read(model, [whole]).cache.layers, both.real[i].bool()
        for layer, own in zip(both.cache.layers, alone, strict=True):
            torch.testing.assert_close(layer.keys[i][:, here], own.keys[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(layer.values[i][:, here], own.values[0], rtol=1e-4, atol=1e-4)
