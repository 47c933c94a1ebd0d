"""Passages made of OpenFacts: long prompts and targets where the literature's sets of them are not to be had.

Knows records, nothing of files or models.
"""

from collections.abc import Iterator, Sequence

from memoir.facts.record import EditRecord

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
        asked = edited[0].irrelevant, edited[0].irrelevant_answer
        target = " ".join(f"{fact.prompt} {fact.target}." for fact in edited)
        texts: dict = {"prompt": " ".join(opening), "target": target, "ood": " ".join([*opening, *anew])}
        yield (
            places[0],
            EditRecord(f"passage-{subject}", subject, **texts, irrelevant=asked[0], irrelevant_answer=asked[1]),
        )


def _statement(text: str) -> bool:
    return not text.endswith("?")
