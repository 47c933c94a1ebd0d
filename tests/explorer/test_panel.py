"""The explorer's functions without a front end; its buttons without a browser."""

import pytest
from test_forget import PROMPTS

from memoir.explorer import panel as explorer


def test_plain_functions_tell_what_answered_and_undo_it(toy_editor):
    editor = toy_editor(threshold=0.9, n_iter=8)
    untouched = explorer.ask(editor, PROMPTS[0])
    assert untouched.before == untouched.after and untouched.edit is None and untouched.overlap == 0.0
    for call in (lambda: explorer.undo(editor), lambda: explorer.mask_picture(editor, PROMPTS[0])):
        with pytest.raises(ValueError, match="no"):
            call()
    for prompt in PROMPTS[:3]:
        editor.edit(prompt, "on shelf 9")
    found = explorer.ask(editor, PROMPTS[1])
    assert (found.edit, found.overlap, found.threshold) == (1, 1.0, 0.9)
    figure = explorer.mask_picture(editor, PROMPTS[1])
    assert "edit 1" in figure.axes[0].get_title() and "shares 100%" in figure.axes[1].get_title()
    assert explorer.undo(editor).prompt == PROMPTS[2] and explorer.undo(editor).prompt == PROMPTS[1]
    assert explorer.ask(editor, PROMPTS[1]).after == found.before
    assert list(explorer.edits(editor).state) == ["answers", "forgotten or replaced", "forgotten or replaced"]


def parts(box):
    (prompt, target, edit), (question, ask, undo) = (row.children for row in box.children[:2])
    return prompt, target, edit, question, ask, undo, *box.children[2:]


def test_buttons_do_what_the_functions_do_and_what_is_typed_stays_text(toy_editor):
    editor = toy_editor(threshold=0.9)
    prompt, target, edit, question, ask, undo, said, picture, made = parts(explorer.explorer(editor))
    undo.click()
    assert "nothing to undo" in said.value and not undo.disabled
    prompt.value, target.value = "<script>alert(1)</script> is", "on <b>shelf</b> 1"
    edit.click()
    assert editor.edits == [(prompt.value, target.value)] and editor.route([prompt.value])[0].edit == 0
    assert all("<script>" not in shown.value and "&lt;script&gt;" in shown.value for shown in (said, made))
    assert bytes(picture.value[:4]) == b"\x89PNG" and "1.00, memory answers from 0.90" in said.value
    question.value = "Name a river"
    ask.click()
    assert "Name a river" in said.value
    prompt.value = " "
    edit.click()
    assert "is empty" in said.value and len(editor.edits) == 1
    prompt.value = "Name a river"
    undo.click()
    assert editor.memory.forgotten == [0] and "forgotten" in made.value and picture.layout.display == "none"
