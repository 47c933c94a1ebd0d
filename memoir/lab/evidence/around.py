"""Questions around an edit: its opposite, its neighbours, other languages, and what follows from it (notebook 11).

All are asked under teacher forcing: an answer is *said* where each of its tokens is the arg-max, as greedy decoding
would have it. The same is asked of the untouched model.
"""

import re
from collections.abc import Iterator, Sequence

import pandas as pd

from memoir import metrics
from memoir.edited import EditedModel
from memoir.evaluation import way
from memoir.facts.record import EditRecord
from memoir.queryable import Score

BE = re.compile(r"\b(is|was|are|were)\b")


def around(record: EditRecord) -> Iterator[tuple[str, str, str | None]]:
    """(kind, question, right answer after the edit; None where none is known) of all that a record can be asked.

    First those that the record's own fields ask, then its `around`: a language, or a kind of KnowEdit's.
    The kinds of KnowEdit have its names: "subject aliasing" (the subject by another name), "reasoning" (one more hop),
    "logical generalization" (what the edited fact implies), "relation specificity" (another fact of the subject),
    "forgetfulness" (what the answer is if it is not the edited one).
    """
    yield "edited prompt", record.prompt, record.target
    for rephrasing in record.rephrasings[:1]:
        yield "rephrasing", rephrasing, record.target
    if negated := record.negated or denied(record):
        yield "negated", negated, None
    if record.neighbour:
        yield "near neighbour", record.neighbour, record.neighbour_answer
    if record.irrelevant:
        yield "irrelevant", record.irrelevant, record.irrelevant_answer
    if record.chinese:
        yield "chinese", record.chinese, record.target
    yield from record.around


def denied(record: EditRecord) -> str | None:
    """The opposite statement of a prompt that states something by "is" or the like, behind its subject if anywhere."""
    behind = record.prompt.casefold().find(record.subject.casefold()) + len(record.subject)
    places = [found.end() for found in BE.finditer(record.prompt) if found.end() > behind]
    if not places or "?" in record.prompt:
        return None
    place = places[-1] if places[-1] == len(record.prompt) else places[0]
    return f"{record.prompt[:place]} not{record.prompt[place:]}"


def asked(editor: EditedModel, facts: Sequence[EditRecord], n: int) -> pd.DataFrame:
    """At most n of the facts, evenly spread: one row per question.

    Columns record, relation, kind, route as in `asking.ask`, and target, right, kept: whether the edit's target and the
    right answer are said (1 or 0; right is missing where no answer is known), and at which share of the right answer's
    tokens (else the target's) the arg-max is the untouched model's. target_before and right_before are what it says;
    accuracy is that of the right answer's tokens.
    """
    own = {edit.prompt: i for i, edit in enumerate(editor.edits)}
    rows = [(fact, *question) for fact in facts[:: -(-len(facts) // n)] for question in around(fact)]
    pairs = {(question, answer) for fact, _, question, right in rows for answer in (fact.target, right) if answer}
    asked = sorted(pairs)
    editor.remember(asked, generated=False)
    now = dict(zip(asked, editor.score(*zip(*asked, strict=True)), strict=True))
    found = []
    for fact, kind, question, right in rows:
        target, answer = (question, fact.target), (question, right or fact.target)
        before = editor.base_answers[answer].score
        found.append({
            "record": fact.id, "relation": fact.relation, "kind": kind,
            "route": way(now[target], own.get(fact.prompt)),
            "target": said(now[target]), "target_before": said(editor.base_answers[target].score),
            "right": said(now[answer]) if right else None, "right_before": said(before) if right else None,
            "accuracy": metrics.token_accuracy(now[answer]) if right else None,
            "kept": metrics.token_agreement(before, now[answer]),
        })  # fmt: skip
    return pd.DataFrame(found)


def said(score: Score) -> float:
    """1 where every token is the arg-max, else 0."""
    return float(metrics.token_accuracy(score) == 1)
