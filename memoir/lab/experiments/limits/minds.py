"""Changing one's mind: the same question edited again and again, by two sources, and forgotten.

Every scenario begins with an empty memory, into which a few other facts are edited first: what becomes of them is told
beside. Knows editors and records.
"""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from memoir import metrics
from memoir.editor import Memoir
from memoir.facts.record import EditRecord
from memoir.lab.evidence import runs

QUESTIONS = 34  # whose minds are changed, in each of six scenarios
OTHERS = 100  # edits that stand beside, written first
TIMES = (2, 5, 20)  # edits of one question


def of_one_kind(records: Sequence[EditRecord], n: int) -> list[EditRecord]:
    """n records of the most frequent relation: their targets answer each other's questions."""
    frequent = pd.Series([record.relation for record in records]).mode()[0]
    return [record for record in records if record.relation == frequent][:n]


@runs.quietly
def measure(editor: Memoir, records: Sequence[EditRecord], others: Sequence[EditRecord]) -> pd.DataFrame:
    """A row per question and scenario: columns scenario, record, latest, earlier, base, others, left.

    latest: whether the last target is said (every token the arg-max); earlier: whether any earlier one is; base:
    whether the arg-max tokens under the last target are the untouched model's; others: the token accuracy of the edits
    beside; left: the norm of W_m over its norm before the question was edited for the first time.

    Scenarios: "edited 2 times" and so on, each time to another target; "A, B, A": back to the first one; "two sources":
    all questions by one source, then all by another, and so once more; "forgotten": edited once, then `forget`.
    """
    empty, rows = runs.state_of(editor), []
    targets = [record.target for record in records]

    def turned(i: int, times: int) -> list[str]:
        """So many targets for question i, its own first."""
        distinct = list(dict.fromkeys(targets[i:] + targets[:i]))
        return [distinct[j % len(distinct)] for j in range(times)]

    plans: dict[str, Callable[[int], list[str]]] = {f"edited {n} times": partial(turned, times=n) for n in TIMES}
    plans |= {"A, B, A": lambda i: [*turned(i, 2), turned(i, 1)[0]], "two sources": lambda i: turned(i, 2) * 2}
    plans |= {"forgotten": lambda i: turned(i, 1)}
    for name, written in plans.items():
        runs.back_to(editor, empty)
        for other in others:
            editor.edit(other.prompt, other.target)
        before = editor.memory.weight.norm().item()
        said = [written(i) for i in range(len(records))]
        last: dict[int, int] = {}
        for turn in range(max(map(len, said))):
            for i, record in enumerate(records):
                last[i] = editor.edit(record.prompt, said[i][turn]).index
        if name == "forgotten":
            for edit in last.values():
                editor.forget(edit)
        rows += _asked(editor, records, said, name, others, editor.memory.weight.norm().item() / before)
    runs.back_to(editor, empty)
    return pd.DataFrame(rows)


def _asked(
    editor: Memoir, records: Sequence[EditRecord], said: list[list[str]], name: str, others: Sequence[EditRecord],
    left: float,
) -> list[dict]:  # fmt: skip
    kept = editor.score([other.prompt for other in others], [other.target for other in others])
    beside, rows = sum(map(metrics.token_accuracy, kept)) / len(kept), []
    for record, targets in zip(records, said, strict=True):
        asked = list(dict.fromkeys(targets))
        now = dict(zip(asked, editor.score([record.prompt] * len(asked), asked), strict=True))
        latest = now[targets[-1]]
        with editor.base():
            base = editor.score(record.prompt, targets[-1])
        says = {target: metrics.token_accuracy(score) == 1 for target, score in now.items()}
        rows.append({
            "scenario": name, "record": record.id, "latest": says[targets[-1]],
            "earlier": any(says[target] for target in asked if target != targets[-1]),
            "base": latest.argmax.equal(base.argmax), "others": beside, "left": left,
        })  # fmt: skip
    return rows
