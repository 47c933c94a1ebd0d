"""The metrics, each once, with its formula; `evaluate` puts them into one tidy table.

Protocols, always named: "teacher-forced" (the literature's; milder) and "generated" (greedy, from the prompt alone).
A teacher-forced value is token accuracy: the share of the n target tokens y_t with argmax p(· | prompt, y_<t) = y_t.
A generated value is exact match: 1 if the first n greedy tokens read as the target after `normalised`, else 0.
Long targets are judged by their perplexity, exp of the mean of -log p(y_t | prompt, y_<t), and texts on an edited
subject by how much of them is likely.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from memoir.facts.reading import EditRecord
from memoir.texts import target_ids

if TYPE_CHECKING:
    from memoir.interface import EditedModel, Score

TEACHER_FORCED, GENERATED = "teacher-forced", "generated"
OOD = "ood generalization"
LIKELY = 0.8  # WISE, appendix A.1: a text counts as expected from this probability on
CLIP = 100.0  # of a perplexity, in the WISE authors' code, where it is switched off


def token_accuracy(score: Score) -> float:
    """Share of target tokens that are the arg-max under teacher forcing (the literature's "EM")."""
    return float((score.argmax == score.target).float().mean())


def token_agreement(before: Score, after: Score) -> float:
    """Share of answer positions at which two models have the same arg-max token (locality of WISE and MEMOIR)."""
    return float((before.argmax == after.argmax).float().mean())


def nll(score: Score) -> float:
    """Mean over the target's tokens of -log p, in nats."""
    return -float(score.log_probs.mean())


def perplexity(nll: pd.Series, clip: float | None = None) -> pd.Series:
    """exp of each target's mean nll (nats), at least 1; at most `clip`, where one is given."""
    found = np.exp(nll)
    return found if clip is None else found.clip(upper=clip)


def likely_texts(nll: pd.Series) -> pd.Series:
    """OOD generalization as the WISE paper defines it (equation 10): 1 where a text's mean nll is below -log 0.8."""
    return (nll < -np.log(LIKELY)).astype(float)


def likely_tokens(score: Score) -> float:
    """OOD generalization as the WISE authors' code computes it: the share of a text's tokens with p above 0.8."""
    return float((score.log_probs > np.log(LIKELY)).float().mean())


def normalised(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: SQuAD's normalisation."""
    text = "".join(c for c in text.casefold() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


class BaseAnswer(NamedTuple):
    """What the untouched model says to a question: under teacher forcing, and generated (None: not asked)."""

    score: Score
    text: str | None


LOCALITIES = ("locality", "neighbour locality")


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


def evaluate(editor: EditedModel, records: Iterable[EditRecord], *, generated: bool = True) -> pd.DataFrame:
    """One row per record, metric and protocol: columns record, metric, protocol, value in [0, 1].

    reliability: the edit's prompt; generalization: the mean over its rephrasings; locality: the irrelevant question,
    same answer as the base model's, right or wrong; neighbour locality: the same for the near neighbour.
    """
    return per_record(ask(editor, records, generated=generated))


def per_record(questions: pd.DataFrame) -> pd.DataFrame:
    """What `ask` found, with a record's questions of one metric put together, as `evaluate` gives it."""
    protocols = [name for name in (TEACHER_FORCED, GENERATED) if name in questions]
    long = questions.melt(["record", "metric"], protocols, var_name="protocol").dropna(subset="value")
    return long.groupby(["record", "metric", "protocol"], sort=False, as_index=False).value.mean()


def ask(editor: EditedModel, records: Iterable[EditRecord], *, generated: bool = True) -> pd.DataFrame:
    """One row per question: its values, and how it was answered.

    Columns: record, metric, teacher-forced and (where asked) generated in [0, 1], nll: the mean over answer tokens of
    -log p in nats, likely: the share of answer tokens with p above 0.8, tokens: how many there are, overlap: R in
    [0, 1], route: "own edit" (the one of its record), "other edit" or "base model". Overlap and route are missing for
    methods that do not route.
    """
    records = list(records)
    remember_base(editor, records, generated=generated)
    own = {edit.prompt: i for i, edit in enumerate(editor.edits)}  # of edits of one prompt the latest answers
    asked = [(record.id, own.get(record.prompt), *question) for record in records for question in questions(record)]
    frame = pd.DataFrame(asked, columns=["record", "own", "metric", "prompt", "answer"])
    kept = frame.metric.isin(LOCALITIES)
    before = [editor.base_answers[pair] if keep else None for pair, keep in zip(_pairs(frame), kept, strict=True)]
    scores = editor.score(frame.prompt, frame.answer)
    frame[TEACHER_FORCED] = [
        token_agreement(b.score, score) if b else token_accuracy(score) for b, score in zip(before, scores, strict=True)
    ]
    if generated:
        expected = [b.text if b else answer for b, answer in zip(before, frame.answer, strict=True)]
        texts = said(editor, frame.prompt, frame.answer)
        frame[GENERATED] = [float(normalised(t) == normalised(e)) for t, e in zip(texts, expected, strict=True)]
    frame["nll"] = [nll(score) for score in scores]
    frame["likely"] = [likely_tokens(score) for score in scores]
    frame["tokens"] = [len(score.target) for score in scores]
    frame["overlap"] = [score.route.overlap if score.route else None for score in scores]
    frame["route"] = [_way(score, own) for score, own in zip(scores, frame.own, strict=True)]
    return frame.drop(columns=["own", "prompt", "answer"])


def retention(editor: EditedModel, records: Iterable[EditRecord]) -> pd.DataFrame:
    """What became of facts that were never edited: one row per record.

    Columns: record, relation, knew and knows (every token of the true answer is the arg-max, before any edit and now),
    agreement with the untouched model in [0, 1], nll_before and nll of the true answer in nats, overlap, route.
    """
    records = list(records)
    pairs = [(record.prompt, record.truths[0]) for record in records]
    remember(editor, pairs, generated=False)
    rows = []
    for record, pair, now in zip(records, pairs, editor.score(*zip(*pairs, strict=True)), strict=True):
        before = editor.base_answers[pair].score
        right = {"knew": token_accuracy(before) == 1, "knows": token_accuracy(now) == 1}
        row = {"record": record.id, "relation": record.relation, **right, "agreement": token_agreement(before, now)}
        overlap = now.route.overlap if now.route else None
        rows.append(row | {"nll_before": nll(before), "nll": nll(now), "overlap": overlap, "route": _way(now, None)})
    return pd.DataFrame(rows)


def remember_base(editor: EditedModel, records: Iterable[EditRecord], *, generated: bool = True) -> None:
    """Ask the base model what locality will be compared with, once for each question, and keep it with the editor."""
    asked = (question for record in records for question in questions(record))
    remember(editor, [(prompt, answer) for metric, prompt, answer in asked if metric in LOCALITIES], generated)


def remember(editor: EditedModel, pairs: Iterable[tuple[str, str]], generated: bool) -> None:
    """Ask the base model these (prompt, answer) pairs, once each, and keep what it says in `editor.base_answers`."""
    missing = {pair for pair in pairs if _lacks(editor.base_answers.get(pair), generated)}
    if not missing:
        return
    prompts, answers = zip(*sorted(missing), strict=True)
    with editor.base():
        scores = editor.score(prompts, answers)
        texts = said(editor, prompts, answers) if generated else [None] * len(prompts)
    editor.base_answers |= {
        (p, a): BaseAnswer(s, t) for p, a, s, t in zip(prompts, answers, scores, texts, strict=True)
    }


def said(editor: EditedModel, prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
    """What the model generates greedily after each prompt: exactly as many tokens as the answer has."""
    lengths = [len(target_ids(editor.tokenizer, p, a)) for p, a in zip(prompts, answers, strict=True)]
    texts: dict[int, str] = {}
    prompts = list(prompts)
    for n in set(lengths):
        places = [i for i, length in enumerate(lengths) if length == n]
        found = editor.generate([prompts[i] for i in places], max_new_tokens=n, min_new_tokens=n)
        texts |= dict(zip(places, found, strict=True))
    return [texts[i] for i in range(len(prompts))]


def summary(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Mean, confidence interval and number of records of each metric and protocol.

    The interval is Student's over records: columns metric, protocol, mean, low, high, n.
    """
    groups = table.groupby(["metric", "protocol"], sort=False).value
    found = groups.agg(mean="mean", error="sem", n="count").reset_index()
    half = student_t.ppf((1 + confidence) / 2, found.n - 1) * found.error
    return found.assign(low=found["mean"] - half, high=found["mean"] + half)[
        ["metric", "protocol", "mean", "low", "high", "n"]
    ]


def _pairs(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(frame.prompt, frame.answer, strict=True)


def _way(score: Score, own: float | None) -> str | None:
    """How a question was answered; own: the index of its record's edit, if it has one."""
    if score.route is None:
        return None
    if score.route.edit is None:
        return "base model"
    return "own edit" if score.route.edit == own else "other edit"


def _lacks(answer: BaseAnswer | None, generated: bool) -> bool:
    return answer is None or (generated and answer.text is None)
