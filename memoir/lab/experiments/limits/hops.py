"""What follows from several edits together: MQuAKE's questions over four facts, at once and step by step.

Each case is edited into an empty memory. Knows editors and records.
"""

from collections.abc import Sequence

import pandas as pd

from memoir.editor import Memoir
from memoir.facts.record import EditRecord
from memoir.lab.evidence import around, runs

CASES = 100  # three questions each


def cases(records: Sequence[EditRecord], n: int = CASES) -> list[list[EditRecord]]:
    """The first n cases, each with its edits in the order in which they follow from each other."""
    found: dict[str, list[EditRecord]] = {}
    for record in records:
        found.setdefault(record.case, []).append(record)
    return list(found.values())[:n]


@runs.quietly
def measure(editor: Memoir, some: Sequence[list[EditRecord]]) -> pd.DataFrame:
    """A row per case: columns case, edits, at_once, at_once_before, hops, by_steps.

    edits: the share of the case's prompts that say their target; at_once: the share of its questions over all facts
    that say the last target, and at_once_before the same of the untouched model, both by every token being the arg-max;
    hops: how many facts are said in turn when each is asked with the answer to the one before; by_steps: whether the
    last one is said so.
    """
    empty, rows = runs.state_of(editor), []
    for facts in some:
        runs.back_to(editor, empty)
        for fact in facts:
            editor.edit(fact.prompt, fact.target)
        asked, target = list(facts[0].multihop), facts[0].multihop_answer
        with editor.base():
            before = _said(editor, asked, [target] * len(asked))
        hops = followed(editor, facts)
        rows.append({
            "case": facts[0].case, "edits": _said(editor, [f.prompt for f in facts], [f.target for f in facts]),
            "at_once": _said(editor, asked, [target] * len(asked)), "at_once_before": before,
            "hops": hops, "by_steps": hops == len(facts),
        })  # fmt: skip
    runs.back_to(editor, empty)
    return pd.DataFrame(rows)


def followed(editor: Memoir, facts: Sequence[EditRecord]) -> int:
    """How many facts the model says in turn, each asked with what it said before in the place of the subject."""
    subject = facts[0].subject
    for n, fact in enumerate(facts):
        subject = editor.said([fact.prompt.replace(fact.subject, subject)], [fact.target])[0].strip()
        if subject != fact.target:
            return n
    return len(facts)


def _said(editor: Memoir, prompts: list[str], targets: list[str]) -> float:
    return sum(map(around.said, editor.score(prompts, targets))) / len(prompts)
