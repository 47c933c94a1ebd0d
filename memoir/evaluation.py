"""What a model says to the questions about records: tables of metrics, of an editing method or of none.

Knows records and metrics; how a model is asked, `queryable.py` says.
"""

from collections.abc import Iterable

import pandas as pd
from transformers import PreTrainedTokenizerBase

from memoir import metrics
from memoir.facts.record import LOCALITIES, EditRecord, questions
from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.queryable import BaseAnswer, QueryableModel, Score


def evaluate(editor: QueryableModel, records: Iterable[EditRecord], *, generated: bool = True) -> pd.DataFrame:
    """One row per record, metric and protocol: columns record, subject, metric, protocol, value in [0, 1].

    reliability: the edit's prompt; generalization: the mean over its rephrasings; locality: the irrelevant question,
    same answer as the base model's, right or wrong; neighbour locality: the same for the near neighbour.
    """
    return metrics.per_record(ask(editor, records, generated=generated))


def ask(editor: QueryableModel, records: Iterable[EditRecord], *, generated: bool = True) -> pd.DataFrame:
    """One row per question: its values, and how it was answered.

    Columns: record, subject, metric, teacher-forced and (where asked) generated in [0, 1], nll: the mean over answer
    tokens of -log p in nats, likely: the share of answer tokens with p above 0.8, tokens: how many there are, overlap:
    R in [0, 1], route: "own edit" (the one of its record), "other edit" or "base model". Overlap and route are missing
    for methods that do not route.
    """
    records = list(records)
    editor.remember_base(records, generated=generated)
    own = {edit.prompt: i for i, edit in enumerate(editor.edits)}  # of edits of one prompt the latest answers
    asked = [
        (record.id, record.subject, own.get(record.prompt), *question)
        for record in records
        for question in questions(record)
    ]
    frame = pd.DataFrame(asked, columns=["record", "subject", "own", "metric", "prompt", "answer"])
    kept, pairs = frame.metric.isin(LOCALITIES), zip(frame.prompt, frame.answer, strict=True)
    before = [editor.base_answers[pair] if keep else None for pair, keep in zip(pairs, kept, strict=True)]
    prompts, answers = [row[4] for row in asked], [row[5] for row in asked]  # a column would make a Verbatim a str
    scores = editor.score(prompts, answers)
    frame[TEACHER_FORCED] = [
        metrics.token_agreement(b.score, score) if b else metrics.token_accuracy(score)
        for b, score in zip(before, scores, strict=True)
    ]
    if generated:
        expected = [b.text if b else answer for b, answer in zip(before, frame.answer, strict=True)]
        texts = [_told(editor.tokenizer, *pair) for pair in zip(scores, before, strict=True)]
        rest = [row[4:] for row, text in zip(asked, texts, strict=True) if text is None]
        said = iter(editor.said(*zip(*rest, strict=True)) if rest else ())
        texts = [next(said) if text is None else text for text in texts]
        frame[GENERATED] = list(map(metrics.exact_match, texts, expected))
    frame["nll"] = [metrics.nll(score) for score in scores]
    frame["likely"] = [metrics.likely_tokens(score) for score in scores]
    frame["tokens"] = [len(score.target) for score in scores]
    frame["overlap"] = [score.route.overlap if score.route else None for score in scores]
    frame["route"] = [way(score, own) for score, own in zip(scores, frame.own, strict=True)]
    return frame.drop(columns=["own", "prompt", "answer"])


def _told(tokenizer: PreTrainedTokenizerBase, score: Score, before: BaseAnswer | None) -> str | None:
    """What is generated, where the scores tell it: all of a target's tokens are the likeliest, or no edit answers."""
    if before is not None:
        return before.text if score.route and score.route.edit is None else None
    return tokenizer.decode(score.target, skip_special_tokens=True) if score.argmax.equal(score.target) else None


def way(score: Score, own: float | None) -> str | None:
    """How a question was answered; own: the index of its record's edit, if it has one."""
    if score.route is None:
        return None
    if score.route.edit is None:
        return "base model"
    return "own edit" if score.route.edit == own else "other edit"
