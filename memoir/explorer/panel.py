"""Try edits by hand: ask, see what answered and why, undo. Plain functions, and the same behind buttons in a notebook.

`explorer` needs a front end that shows ipywidgets, such as JupyterLab; the functions above it need nothing.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from memoir import plots, tophash
from memoir.editor import Memoir
from memoir.queryable import Edit


@dataclass(frozen=True)
class Answer:
    """A question's answer from the base model and from the edited one; edit is the index of the one that answered.

    overlap is the best that any stored mask shares with the question's, memory answers from threshold on.
    """

    question: str
    before: str
    after: str
    edit: int | None
    overlap: float
    threshold: float


def ask(editor: Memoir, question: str, max_new_tokens: int = 6) -> Answer:
    """Ask the base model and the edited one, and say which edit was matched."""
    with editor.base():
        (before,) = editor.generate([question], max_new_tokens)
    (after,), (route,) = editor.generate([question], max_new_tokens), editor.route([question])
    return Answer(question, before.strip(), after.strip(), route.edit, route.overlap, editor.memory.threshold)


def edits(editor: Memoir) -> pd.DataFrame:
    """All edits in order, and which of them still answer."""
    forgotten = set(editor.memory.forgotten)
    states = ["forgotten or replaced" if i in forgotten else "answers" for i in range(len(editor.edits))]
    return pd.DataFrame(editor.edits, columns=Edit._fields).assign(state=states)


def undo(editor: Memoir) -> Edit:
    """Forget the latest edit that still answers. An answer that it had replaced does not come back."""
    standing = sorted(set(range(len(editor.edits))) - set(editor.memory.forgotten))
    if not standing:
        raise ValueError("There is nothing to undo: no edit answers any question.")
    editor.forget(standing[-1])
    return editor.edits[standing[-1]]


def mask_picture(editor: Memoir, question: str) -> Figure:
    """The question's mask beside the stored one that is nearest to it; ValueError when there is none."""
    if len(editor.memory.forgotten) == len(editor.edits):
        raise ValueError("There is no stored mask to compare with: edit a prompt first.")
    mask = editor.masks([question])
    nearest = tophash.overlap_counts(tophash.pack(mask), editor.memory.masks)[0, ::-1].argmax()
    index = len(editor.edits) - 1 - int(nearest)
    stored = tophash.unpack(editor.memory.masks[index], editor.memory.size)
    pictures = {f"edit {index}: {editor.edits[index].prompt}"[:60]: stored, f"asked: {question}"[:60]: mask[0].cpu()}
    return plots.mask_pictures(pictures, stored, width=2 ** (len(stored).bit_length() // 2 + 1))


def explorer(editor: Memoir) -> ipywidgets.VBox:
    """Fields and buttons for the functions above, for as long as the editor stays attached."""
    wide = ipywidgets.Layout(width="32em")
    prompt, target, question = (
        ipywidgets.Text(description=name, value=value, layout=wide, continuous_update=False)
        for name, value in (("prompt", "The capital of Spain is"), ("target", "Porto"), ("ask", "Spain's capital is"))
    )
    buttons = [ipywidgets.Button(description=name) for name in ("Edit", "Ask", "Undo last edit")]
    said, made = ipywidgets.HTML(), ipywidgets.HTML()
    picture = ipywidgets.Image(format="png", layout={"display": "none"})

    def show(asked: str) -> str:
        answer = ask(editor, asked)
        made.value = edits(editor).to_html(border=0)  # escapes what was typed
        picture.layout.display = "none" if len(editor.memory.forgotten) == len(editor.edits) else ""
        if picture.layout.display == "":
            picture.value = _png(mask_picture(editor, asked))
        return _sentence(answer, editor)

    def edit() -> str:
        editor.edit(prompt.value, target.value)
        return show(prompt.value)

    def undo_last() -> str:
        undo(editor)
        return show(prompt.value)

    wire(buttons, (edit, lambda: show(question.value), undo_last), said)
    rows = [[prompt, target, buttons[0]], [question, buttons[1], buttons[2]]]
    box = ipywidgets.VBox([*(ipywidgets.HBox(row) for row in rows), said, picture, made])
    box.add_class("memoir-explorer")
    return box


def wire(buttons: Sequence[ipywidgets.Button], works: Sequence[Callable[[], str]], said: ipywidgets.HTML) -> None:
    """Let each button do its own work. said shows what that returns, or its error; meanwhile no button is enabled."""

    def press(work: Callable[[], str]) -> None:
        _disable(buttons, True)
        said.value = "working …"
        try:
            said.value = work()
        except (ValueError, FloatingPointError, RuntimeError) as error:
            said.value = f"<b>{html.escape(str(error))}</b>"
        finally:
            _disable(buttons, False)

    for button, work in zip(buttons, works, strict=True):
        button.on_click(lambda _, work=work: press(work))


def routed(editor: Memoir, edit: int | None, overlap: float) -> dict[str, str]:
    """In words who answered, an edit by its index or the base model, and how far the question's mask overlaps."""
    by = "the base model" if edit is None else f"edit {edit} ({editor.edits[edit].prompt})"
    threshold = editor.memory.threshold
    return {"answered by": by, "overlap": f"{overlap:.2f}, memory answers from {threshold:.2f}"}


def lines(rows: dict[str, str]) -> str:
    """A line of HTML for each name and its value; values are texts as they were typed, and stay so."""
    return "<br>".join(f"{name}: <b>{html.escape(value)}</b>" for name, value in rows.items())


def _sentence(answer: Answer, editor: Memoir) -> str:
    rows = {"asked": answer.question, "before": answer.before, "after": answer.after}
    return lines(rows | routed(editor, answer.edit, answer.overlap))


def _disable(buttons: Sequence[ipywidgets.Button], off: bool) -> None:
    for button in buttons:
        button.disabled = off


def _png(figure: Figure) -> bytes:
    data = BytesIO()
    figure.savefig(data, format="png")
    plt.close(figure)
    return data.getvalue()
