"""Talk with an edited model: see which edit gave each answer, and give the last question another one.

Plain functions, and the same behind buttons in a notebook. `conversation` needs a front end that shows ipywidgets; the
functions above it need nothing.
"""

from dataclasses import dataclass

import ipywidgets

from memoir.chat.template import Message
from memoir.editor import Memoir
from memoir.explorer import panel


@dataclass(frozen=True)
class Turn:
    """A question and its answer, as it was given; edit is the index of the one that gave it, None for the base model.

    overlap is the best that any stored mask shared with the question's then, in [0, 1].
    """

    question: str
    answer: str
    edit: int | None
    overlap: float


Talk = tuple[Turn, ...]
BUTTONS = ("Ask", "Edit last question", "Undo last edit", "New conversation")


def messages(talk: Talk) -> list[Message]:
    """The turns as `Memoir.chat` and chat templates take them."""
    pairs = (pair for turn in talk for pair in (("user", turn.question), ("assistant", turn.answer)))
    return [{"role": role, "content": content} for role, content in pairs]


def say(editor: Memoir, talk: Talk, question: str) -> Talk:
    """Ask a question behind the turns so far. ValueError as of `Memoir.chat`, or where the text is too long."""
    asked = [*messages(talk), {"role": "user", "content": question}]
    answer, route = editor.chat(asked), editor.route_chat(asked)
    return (*talk, Turn(question, answer.strip(), route.edit, route.overlap))


def again(editor: Memoir, talk: Talk) -> Talk:
    """Ask the last question again, if there is one; the turns before it stay as they were said."""
    return say(editor, talk[:-1], talk[-1].question) if talk else talk


def edit(editor: Memoir, talk: Talk, answer: str) -> Talk:
    """Edit the last question to another answer and ask it again. ValueError without a question; others as of `edit`."""
    if not talk:
        raise ValueError("There is nothing to edit: ask a question first.")
    editor.edit(talk[-1].question, answer)
    return again(editor, talk)


def undo(editor: Memoir, talk: Talk) -> Talk:
    """Forget the latest edit that still answers and ask the last question again; ValueError where no edit answers."""
    panel.undo(editor)
    return again(editor, talk)


def conversation(editor: Memoir) -> ipywidgets.VBox:
    """Fields and buttons for the functions above, for as long as the editor stays attached."""
    wide = ipywidgets.Layout(width="32em")
    question, answer = (
        ipywidgets.Text(description=name, value=value, layout=wide, continuous_update=False)
        for name, value in (("question", "Who painted the Mona Lisa?"), ("new answer", "Rembrandt"))
    )
    buttons = [ipywidgets.Button(description=name) for name in BUTTONS]
    turns, said, made = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
    talk: Talk = ()

    def show(now: Talk) -> str:
        nonlocal talk
        talk = now
        turns.value = "<hr>".join(_sentence(turn, editor) for turn in talk)
        made.value = panel.edits(editor).to_html(border=0)  # escapes what was typed
        return ""

    def ask() -> str:
        now = say(editor, talk, question.value)
        question.value = ""
        return show(now)

    works = (ask, lambda: show(edit(editor, talk, answer.value)), lambda: show(undo(editor, talk)), lambda: show(()))
    panel.wire(buttons, works, said)
    show(())
    rows = [[question, buttons[0], buttons[3]], [answer, buttons[1], buttons[2]]]
    box = ipywidgets.VBox([turns, *(ipywidgets.HBox(row) for row in rows), said, made])
    box.add_class("memoir-conversation")
    return box


def _sentence(turn: Turn, editor: Memoir) -> str:
    return panel.lines({"asked": turn.question, "answer": turn.answer} | panel.routed(editor, turn.edit, turn.overlap))
