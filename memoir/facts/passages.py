"""Passages made of OpenFacts: long prompts and targets where the literature's sets of them are not to be had.

Knows records, nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memoir.facts.registry import EditRecord

LEAST = 4  # statements that a subject needs: half of them are told, half are edited


def of_subjects(facts: Sequence[EditRecord]) -> Iterator[tuple[int, EditRecord]]:
    """A passage for each subject with enough statements: the position of its first fact, and the record.

    prompt: an opening and the first half of the statements, with their true answers. target: the other half, with the
    answers that their edits write. ood: the prompt, and the same edits in other words and another order.
    """
    by_subject: dict[str, list[int]] = {}
    for i, fact in enumerate(facts):
        if _statement(fact.prompt) and any(map(_statement, fact.rephrasings)):
            by_subject.setdefault(fact.subject, []).append(i)
    for subject, places in by_subject.items():
        if len(places) < LEAST:
            continue
        about = [facts[i] for i in places]
        told, edited = about[: len(about) // 2], about[len(about) // 2 :]
        opening = [f"This is a passage about {subject}.", *(f"{fact.prompt} {fact.truths[0]}." for fact in told)]
        anew = [f"{next(filter(_statement, fact.rephrasings))} {fact.target}." for fact in reversed(edited)]
        passage = replace(
            edited[0],
            id=f"passage-{subject}",
            relation=None,
            subject=subject,
            prompt=" ".join(opening),
            target=" ".join(f"{fact.prompt} {fact.target}." for fact in edited),
            truths=(),
            rephrasings=(),
            neighbour=None,
            neighbour_answer=None,
            negated=None,
            chinese=None,
            ood=" ".join([*opening, *anew]),
        )
        yield places[0], passage


def _statement(text: str) -> bool:
    return not text.endswith("?")
