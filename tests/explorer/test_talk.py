"""The conversation's functions without a front end; its buttons without a browser."""

import pytest
from conftest import toy_model

from memoir.explorer import talk

FIRST, SECOND, OTHER = "Where does the old violin hang?", "How many lemons did Otto buy?", "Name a river."


@pytest.fixture
def editor(toy_editor):
    model = toy_model()
    model.model.layers[0].self_attn.o_proj.weight.data.zero_()  # features that a random context does not drown
    return toy_editor(model, layer=0, span="question", formats=("chat",), end=True, prefixes=(), n_iter=8)


def test_each_answer_tells_who_gave_it_and_the_last_question_is_edited(editor):
    told = talk.say(editor, (), FIRST)
    told = talk.say(editor, told, SECOND)
    assert [(turn.question, turn.edit, turn.overlap) for turn in told] == [(FIRST, None, 0.0), (SECOND, None, 0.0)]
    first, answer, second, _ = talk.messages(told)
    assert (first, second) == ({"role": "user", "content": FIRST}, {"role": "user", "content": SECOND})
    assert answer == {"role": "assistant", "content": told[0].answer}
    edited = talk.edit(editor, told, "seventy")
    assert editor.edits == [(SECOND, "seventy")] and edited[0] == told[0]
    assert edited[1].answer == editor.chat([first, answer, second]).strip() != told[1].answer
    assert edited[1].edit == 0 and editor.memory.threshold <= edited[1].overlap <= 1
    more = talk.say(editor, edited, OTHER)
    assert more[:2] == edited and more[2].edit is None
    assert talk.undo(editor, edited) == told and editor.memory.forgotten == [0]


def test_what_cannot_be_done_is_said_and_changes_nothing(editor):
    for call in (lambda: talk.edit(editor, (), "seventy"), lambda: talk.undo(editor, ())):
        with pytest.raises(ValueError, match="There is nothing to"):
            call()
    told = talk.say(editor, (), FIRST)
    for call in (lambda: talk.say(editor, told, " "), lambda: talk.edit(editor, told, " ")):
        with pytest.raises(ValueError, match="is empty|no tokens"):
            call()
    assert talk.again(editor, ()) == () and talk.again(editor, told) == told and editor.edits == []


def parts(box):
    turns, asking, editing, said, made = box.children
    return *asking.children, *editing.children, turns, said, made


def test_buttons_do_what_the_functions_do_and_what_is_typed_stays_text(editor, monkeypatch):
    question, ask, new, answer, edit, undo, turns, said, made = parts(talk.conversation(editor))
    buttons, chat, seen = (ask, new, edit, undo), editor.chat, []
    monkeypatch.setattr(
        editor, "chat", lambda *a: seen.append([b.disabled for b in buttons] + [said.value]) or chat(*a)
    )
    edit.click()
    assert "There is nothing to edit" in said.value
    undo.click()
    assert "nothing to undo" in said.value and turns.value == ""
    question.value, answer.value = f"<script>alert(1)</script> {FIRST}", "in <b>a</b> barn"
    ask.click()
    assert said.value == "" and turns.value.count("answered by: <b>the base model</b>") == 1 and question.value == ""
    ask.click()
    assert "is empty" in said.value and turns.value.count("asked:") == 1
    edit.click()
    assert said.value == "" and "answered by: <b>edit 0" in turns.value and "memory answers from 0.50" in turns.value
    assert all("<script>" not in shown.value and "&lt;script&gt;" in shown.value for shown in (turns, made))
    question.value = OTHER
    ask.click()
    assert turns.value.count("asked:") == 2 and "<b>edit 0" in turns.value and "<b>the base model" in turns.value
    undo.click()
    assert editor.memory.forgotten == [0] and "forgotten" in made.value
    new.click()
    assert turns.value == "" and seen == [[True] * 4 + ["working …"]] * 5
    assert not any(button.disabled for button in buttons)
    editor.detach()
    question.value = OTHER
    ask.click()
    assert "was detached" in said.value and turns.value == ""
