"""A fact to edit, and the questions that tell whether it was written well. Knows texts only."""

from collections.abc import Iterator
from dataclasses import dataclass

OOD = "ood generalization"
LOCALITIES = ("locality", "neighbour locality")


@dataclass(frozen=True)
class EditRecord:
    """One fact to write, and the questions that tell whether it was written well. Absent parts are None or ().

    truths: answers that were true before; rephrasings: other wordings of prompt; irrelevant: a question that must keep
    its answer; neighbour: the prompt about another subject; negated: the opposite statement; chinese: prompt in
    Chinese; ood: text in another style that should follow the edit; multihop: questions whose answer follows from
    several edits; around: further questions near the edit, (kind, question, right answer); case: those several edits
    share it and are made together, one case at a time. A prompt may occur once in each case, with another target in
    another.
    """

    id: str
    subject: str
    prompt: str
    target: str
    relation: str | None = None
    truths: tuple[str, ...] = ()
    rephrasings: tuple[str, ...] = ()
    irrelevant: str | None = None
    irrelevant_answer: str | None = None
    neighbour: str | None = None
    neighbour_answer: str | None = None
    negated: str | None = None
    chinese: str | None = None
    ood: str | None = None
    multihop: tuple[str, ...] = ()
    multihop_answer: str | None = None
    around: tuple[tuple[str, str, str], ...] = ()
    case: str | None = None


def questions(record: EditRecord) -> Iterator[tuple[str, str, str]]:
    """(metric, prompt, answer) for everything a record asks. A part that the record does not have asks nothing.

    A text on the edited subject is what follows its prompt; where it begins otherwise, the whole of it does.
    """
    yield "reliability", record.prompt, record.target
    for rephrasing in record.rephrasings:
        yield "generalization", rephrasing, record.target
    if record.irrelevant:
        yield "locality", record.irrelevant, record.irrelevant_answer
    if record.neighbour:
        yield "neighbour locality", record.neighbour, record.neighbour_answer
    if record.ood:
        yield OOD, record.prompt, record.ood.removeprefix(record.prompt)
