"""True answers swapped among records: edits that are false, and of the right type. Knows records, nothing of files.

A record takes the answer of another one that is asked in the same words, its question's template; where there is none,
of one with the same question words and kind of answer. It depends on the records and their order alone.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from memoir import texts
from memoir.facts.record import EditRecord

WAYS = TEMPLATE, KIND, WORDING, NONE = "template", "kind", "other wording", "none"
ASKING = re.compile(r"\b(who|whom|whose|when|where|why|how|which|what)\b")
# passed over on the way from "what", "which" or "how" to the word that says what is asked for
PASSED = re.compile(
    r"\b(an?|the|is|are|was|were|be|did|does|do|has|have|had|s|of|in|on|at|to|for|from|by|kind|type|sort|specific|name)\b"
)
MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
DATE = re.compile(rf"(?=.*\d).*\b({MONTHS})\b|\d+[-/.]\d+[-/.]\d+")


class Drawn(NamedTuple):
    """The answer that a record takes, and how it was found: TEMPLATE, KIND, WORDING (it is that of a record on the same
    fact), or NONE, and then it is the record's own."""

    answer: str
    way: str


def swapped(records: Sequence[EditRecord]) -> Iterator[tuple[int, EditRecord]]:
    """The records with swapped targets, in their order: (position, record). What was the target is a truth.

    Where none is found the target stays true, which the validator rejects: such a record is left out and listed.
    """
    for i, (record, drawn) in enumerate(zip(records, draw(records), strict=True)):
        yield i, replace(record, target=drawn.answer, truths=(record.target, *record.truths))


def draw(records: Sequence[EditRecord]) -> list[Drawn]:
    """For each record the answer of the next one, around the end, that is like none of its subject's own answers.

    Records on one subject whose answers are alike are wordings of one fact, and take the same.
    """
    pools: dict[tuple[str, ...], list[int]] = {}
    subjects: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        subjects.setdefault(record.subject.casefold(), []).append(i)
        for key in keys(record):
            pools.setdefault(key, []).append(i)
    found: list[Drawn] = []
    for i, record in enumerate(records):
        about = subjects[record.subject.casefold()]
        worded = [j for j in about if j < i and found[j].way != NONE and alike(records[j].target, record.target)]
        if worded:
            found.append(Drawn(found[worded[0]].answer, WORDING))
            continue
        own = [records[j].target for j in about]
        found.append(_next(i, records, pools, own) or Drawn(record.target, NONE))
    return found


def _next(i: int, records: Sequence[EditRecord], pools: dict, own: list[str]) -> Drawn | None:
    for key in keys(records[i]):
        at = bisect(pools[key], i)
        for j in pools[key][at:] + pools[key][:at]:
            if not any(alike(records[j].target, answer) for answer in own):
                return Drawn(records[j].target, key[0])
    return None


def keys(record: EditRecord) -> Iterator[tuple[str, ...]]:
    """What records must share for one to take the other's answer, the best first."""
    yield TEMPLATE, template(record)
    if asked := question_words(record):
        yield KIND, asked, kind(record.target)


def template(record: EditRecord) -> str:
    """The question with its subject replaced, in lower case and with single spaces."""
    prompt, subject = record.prompt.casefold(), record.subject.casefold()
    marked, times = re.subn(rf"(?<!\w){re.escape(subject)}(?!\w)", "{}", prompt)
    return " ".join((marked if times else prompt.replace(subject, "{}")).split())


def question_words(record: EditRecord) -> str:
    """The question word, and with "what", "which" and "how" the word that says what is asked for, behind or before it:
    "what continent" of "The continent of {} is what?" too. Empty where there is no question word."""
    text = template(record)
    word = ASKING.search(text)
    if not word or word[0] not in ("what", "which", "how"):
        return word[0] if word else ""
    behind, before = (PASSED.sub(" ", part) for part in (text[word.end() :], text[: word.start()]))
    thing = re.search(r"\w+", behind) or re.search(r"\w+", before)
    return f"{word[0]} {thing[0]}" if thing else word[0]


def kind(answer: str) -> str:
    """date, year, number, name (it begins with a capital) or other, by the answer's shape."""
    if DATE.match(answer.casefold()):
        return "date"
    if answer[:1].isdigit():
        return "year" if re.fullmatch(r"[12]\d{3}", answer) else "number"
    return "name" if answer[:1].isupper() else "other"


def alike(one: str, other: str) -> bool:
    """Whether two answers are the same after normalisation, or one is among the other's words ("by suicide")."""
    a, b = (f" {texts.normalised(text) or text.casefold()} " for text in (one, other))
    return a in b or b in a
