"""What stands before an edit's tokens is read once, with other rows, and makes no difference to what is read behind."""

import gc
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.cache_utils import CacheLayerMixin

from memoir.batches.joint import Batch
from memoir.conversation.before import KEPT, positions, read
from memoir.conversation.forms import EARLIER, FORMATS
from memoir.prefix import run_tail

FACT = ("Where does the old violin hang?", "in a barn")


@torch.no_grad()
def plain_loss(editor, before: list[int], after: list[int], start: int, added: torch.Tensor) -> float:
    """A row's loss in one pass over all of its tokens, where `added` (n, d) comes on top from the token `start` on."""
    edited = editor.model.get_submodule(editor.family.layers)[editor.settings.layer].get_submodule(editor.family.edited)

    def add(_module, _args, output):
        return output + torch.nn.functional.pad(added, (0, 0, start, 0))

    handle = edited.register_forward_hook(add, prepend=True)
    try:
        with editor.base():
            logits = editor.model(input_ids=torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
    finally:
        handle.remove()
    return cross_entropy(logits.float(), torch.tensor(after)).item()


def losses(editor, forms, scale: float = 0.1):
    """The losses of an edit's ways of asking under random outputs: together, each by itself, and in plain passes."""
    batch, tail = editor._ways(forms), partial(run_tail, editor.model, editor.family, editor.settings.layer)
    outputs = scale * torch.randn(len(batch.places[0]), 32, generator=torch.Generator().manual_seed(0))
    shares = outputs.split([len(part.prefix.real[0]) for part in batch.apart()])
    with torch.no_grad():
        together = batch.losses(tail, outputs).tolist()
        apart = [part.loss(tail, own).item() for part, own in zip(batch.apart(), shares, strict=True)]
    plain = [
        plain_loss(editor, before, after, editor._start(before)[1], own)
        for ((before,), (after,)), own in zip(forms, shares, strict=True)
    ]
    return together, apart, plain


@pytest.mark.parametrize("span", ["question", "prompt"])
def test_every_way_of_asking_has_the_loss_of_a_plain_pass(toy, toy_editor, span):
    editor = toy_editor(toy, span=span, formats=FORMATS, end=True, prefixes=())
    forms = [*editor._forms.rows(*FACT, (), 3)]
    together, apart, plain = losses(editor, forms)
    assert len(plain) == 3 + len(EARLIER) and max(plain) - min(plain) > 0.01
    torch.testing.assert_close(together, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(apart, plain, rtol=1e-4, atol=1e-4)


def test_texts_before_are_read_once_and_the_first_of_many_go(toy_editor, monkeypatch):
    editor = toy_editor(span="question", formats=["context"], prefixes=())
    forms = [*editor._forms.rows(*FACT, (), 3)]
    expected = losses(editor, forms)
    assert len(editor._texts._kept) == 1
    monkeypatch.setattr(editor._texts, "_text", lambda ids: editor._texts._kept.get(ids))  # nothing is read again
    torch.testing.assert_close(losses(editor, forms), expected, rtol=0, atol=0)
    monkeypatch.undo()
    for ids in range(KEPT + 3):
        editor._texts._text((ids + 5,))
    assert len(editor._texts._kept) == KEPT and (5,) not in editor._texts._kept


def test_what_was_read_goes_with_its_edit(toy_editor):
    """Caches are large, and Python looks for cycles by counting objects: gigabytes would wait for it."""
    editor = toy_editor(span="question", formats=FORMATS, prefixes=())
    editor.edit(*FACT)
    gc.collect()
    gc.disable()
    try:
        for i in range(3):
            editor.edit(f"Who keeps mill {i}?", "Otto")
        kept = sum(len(text.cache.layers) for text in editor._texts._kept.values())
        assert sum(issubclass(type(found), CacheLayerMixin) for found in gc.get_objects()) <= kept
    finally:
        gc.enable()


def test_a_question_of_one_token_beside_rows_that_stand_behind_texts(toy_editor):
    editor = toy_editor(span="question", formats=["cue", "context"], prefixes=())
    forms = [*editor._forms.rows("Why", "because", (), 0)]
    together, apart, plain = losses(editor, forms)
    torch.testing.assert_close(together, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(apart, plain, rtol=1e-4, atol=1e-4)


def test_with_prefixes_the_memory_acts_from_each_row_s_question_on(toy_editor):
    """As it does when such a row is asked; the rows are one way of asking, and have one loss."""
    editor = toy_editor(span="question", prefixes=("Once upon a time", "He said"))
    batch = editor._ways([*editor._forms.rows(*FACT, editor.prefixes, 0)])
    assert isinstance(batch, Batch) and len(batch.apart()) == 1
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
