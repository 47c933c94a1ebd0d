"""An edit that is forgotten answers no more, whatever happens next; an edit of the same prompt replaces the earlier."""

import numpy as np
import pytest
import torch
from shelves import RECORDS, assert_same_state

from memoir import Memoir

PROMPTS = [record.prompt for record in RECORDS]


def answers(editor, prompts=PROMPTS):
    return [score.log_probs for score in editor.score(prompts, ["on shelf 3"] * len(prompts))]


def test_a_forgotten_edit_answers_no_more_and_the_others_as_before(toy_editor):
    editor = toy_editor(threshold=0.9)  # on the toy model prompts of one template are alike; each must route to its own
    base = answers(editor)
    editor.edit_all(RECORDS[:4])
    before, weight = answers(editor), editor.memory.weight.clone()
    assert [route.edit for route in editor.route(PROMPTS[:4])] == [0, 1, 2, 3]
    editor.forget(1)
    after, routes = answers(editor), editor.route(PROMPTS)
    assert [route.edit for route in routes[:4]] == [0, None, 2, 3] and editor.memory.forgotten == [1]
    assert torch.equal(after[1], base[1]) and not torch.equal(before[1], base[1])
    assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(before, after, strict=True)) if i != 1)
    assert torch.equal(weight, editor.memory.weight), "W_m keeps what was written"


def test_what_forget_returns_is_what_is_left_in_the_memory(toy_editor):
    editor = toy_editor(weight_decay=0.0)
    mask = editor.edit(PROMPTS[0], "on shelf 0").mask
    whole = editor.memory.weight.norm().item()
    assert editor.forget(0) == pytest.approx((whole, whole)), "one edit alone wrote all there is, in its own columns"
    result = editor.edit(PROMPTS[1], "on shelf 7")
    columns = editor.memory.weight[:, result.mask].norm().item()
    left = editor.forget(1)
    assert left == pytest.approx((columns, editor.memory.weight.norm().item())) and left[0] < left[1]
    # the residue is read wherever columns are shared: honest, not hidden
    assert (mask & result.mask).any() and editor.memory.weight[:, mask & result.mask].any()


def test_with_every_edit_forgotten_the_model_is_the_base_model(toy_editor):
    editor = toy_editor(threshold=0.0)  # at τ = 0 every prompt is answered from memory
    base = answers(editor)
    editor.edit_all(RECORDS[:2])
    assert {route.edit for route in editor.route(PROMPTS)} <= {0, 1}
    editor.forget(0)
    assert {route.edit for route in editor.route(PROMPTS)} == {1}
    editor.forget(1)
    assert {route.edit for route in editor.route(PROMPTS)} == {None}
    assert all(torch.equal(a, b) for a, b in zip(answers(editor), base, strict=True))
    with pytest.raises(ValueError, match="some of both"):
        editor.calibrate(["Name a river"])


def test_forgetting_survives_save_load_and_resume(toy_editor, tmp_path):
    editor = toy_editor()
    editor.edit_all(RECORDS[:3], checkpoint=tmp_path / "run")
    editor.forget(1)
    editor.save(tmp_path / "saved")
    again = toy_editor()
    again.detach()
    again = Memoir.load(tmp_path / "saved", again.model, editor.tokenizer)
    assert again.memory.forgotten == [1] and again.route(PROMPTS) == editor.route(PROMPTS)
    assert_same_state(editor, again)

    # resumed from a checkpoint of before the edit was forgotten, which must not bring it back
    assert len(editor.edit_all(RECORDS[3:6], checkpoint=tmp_path / "run")) == 3
    again.edit_all(RECORDS[3:6])
    assert editor.memory.forgotten == again.memory.forgotten == [1]
    assert_same_state(editor, again)
    fresh = toy_editor()
    assert fresh.edit_all(RECORDS[:6], checkpoint=tmp_path / "run") == []
    assert_same_state(editor, fresh)


def test_editing_again_replaces_and_forgetting_that_uncovers_nothing(toy_editor):
    editor = toy_editor(threshold=0.9)
    base = answers(editor)
    editor.edit(PROMPTS[0], "on shelf 0")
    editor.edit(PROMPTS[1], "on shelf 7")
    assert editor.edit(PROMPTS[0] + " ", "under the bed for a very long time").index == 2
    assert editor.memory.forgotten == [0] and editor.route(PROMPTS[:2])[0].edit == 2
    with pytest.raises(ValueError, match="replaced by a later edit"):
        editor.forget(0)
    editor.forget(2)
    assert torch.equal(answers(editor)[0], base[0]), "the old answer must not come back"
    assert [edit.target for edit in editor.edits] == ["on shelf 0", "on shelf 7", "under the bed for a very long time"]


def test_an_edit_that_fails_replaces_nothing(toy_editor):
    editor = toy_editor()
    editor.edit(PROMPTS[0], "on shelf 0")
    with pytest.raises(ValueError, match="no tokens"):
        editor.edit(PROMPTS[0], " ")
    assert editor.memory.forgotten == [] and editor.route(PROMPTS[:1])[0].edit == 0


@pytest.mark.parametrize(("edit", "error", "words"), [
    (-1, ValueError, "numbered 0 to 1"), (2, ValueError, "numbered 0 to 1"), (1.0, TypeError, "a whole number"),
    ("0", TypeError, "a whole number"), (None, TypeError, "a whole number"),
])  # fmt: skip
def test_what_is_no_edit_is_refused_and_changes_nothing(toy_editor, edit, error, words):
    editor = toy_editor()
    editor.edit_all(RECORDS[:2])
    masks = editor.memory.masks.copy()
    with pytest.raises(error, match=words):
        editor.forget(edit)
    np.testing.assert_array_equal(masks, editor.memory.masks)
    editor.detach()
    with pytest.raises(RuntimeError, match="detached"):
        editor.forget(0)


def test_a_cache_filled_before_reads_nothing_from_a_forgotten_edit(toy_editor, tokenizer):
    """A generation under way goes on as the base model would from the same cache; it does not crash."""
    editor = toy_editor()
    editor.edit(PROMPTS[0], "on shelf 0")
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        cache = editor.model(input_ids=ids, use_cache=True).past_key_values
        editor.forget(0)
        step = editor.model(input_ids=ids[:, :1], past_key_values=cache).logits
    assert torch.isfinite(step).all()
