"""What the untouched model says to the prompts of the data sets, as tidy frames. Knows editors, records and metrics."""

from collections.abc import Sequence

import pandas as pd

from memoir.facts.record import EditRecord
from memoir.metrics import GENERATED, TEACHER_FORCED, exact_match, summary, token_accuracy
from memoir.queryable import QueryableModel

PROTOCOLS = [TEACHER_FORCED, GENERATED]


def answers(editor: QueryableModel, records: Sequence[EditRecord], kind: str, generated: bool = True) -> pd.DataFrame:
    """A row per record: the untouched model's answer beside what is expected, under both protocols.

    kind: "target", or "true answer" where a record has one. Columns relation, prompt, expected, said (None where
    nothing is generated), answer (the kind), and a column per protocol.
    """
    prompts = [record.prompt for record in records]
    expected = [record.target if kind == "target" or not record.truths else record.truths[0] for record in records]
    with editor.base():
        scores = editor.score(prompts, expected)
        said = editor.said(prompts, expected) if generated else [None] * len(prompts)
    right = list(map(exact_match, said, expected)) if generated else said
    values = {TEACHER_FORCED: [token_accuracy(score) for score in scores], GENERATED: right}
    about = {"relation": [record.relation for record in records], "prompt": prompts, "expected": expected}
    return pd.DataFrame(about | {"said": said, "answer": kind} | values)


def by_set(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % interval by set, answer and protocol; no numbers where nothing was asked.

    table: columns set, answer and the protocols.
    """
    long = table.melt(["set", "answer"], PROTOCOLS, var_name="protocol").astype({"value": float})
    found = [
        summary(rows.rename(columns={"answer": "metric"})).assign(set=name)
        for name, rows in long.dropna().groupby("set", sort=False)
    ]
    found = pd.concat(found).rename(columns={"metric": "answer"})
    return long[["set", "answer", "protocol"]].drop_duplicates().merge(found, how="left")
