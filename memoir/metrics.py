"""The metrics, each once, with its formula. Knows what a model answered; who asks it stands in `queryable.py`.

Protocols, always named: "teacher-forced" (the literature's; milder) and "generated" (greedy, from the prompt alone).
A teacher-forced value is token accuracy: the share of the n target tokens y_t with argmax p(· | prompt, y_<t) = y_t.
A generated value is exact match: 1 if the first n greedy tokens read as the target after `normalised`, else 0.
Long targets are judged by their perplexity, exp of the mean of -log p(y_t | prompt, y_<t), and texts on an edited
subject by how much of them is likely.
"""

from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t as student_t

from memoir.queryable import Score
from memoir.texts import normalised

TEACHER_FORCED, GENERATED = "teacher-forced", "generated"
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


def exact_match(said: str, expected: str) -> float:
    """1 where the two read the same after `normalised`, else 0."""
    return float(normalised(said) == normalised(expected))


def per_record(questions: pd.DataFrame) -> pd.DataFrame:
    """What `ask` found, with a record's questions of one metric put together, as `evaluate` gives it."""
    protocols = [name for name in (TEACHER_FORCED, GENERATED) if name in questions]
    long = questions.melt(["record", "metric"], protocols, var_name="protocol").dropna(subset="value")
    return long.groupby(["record", "metric", "protocol"], sort=False, as_index=False).value.mean()


def summary(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Mean, confidence interval and number of records of each metric and protocol.

    The interval is Student's over records: columns metric, protocol, mean, low, high, n.
    """
    groups = table.groupby(["metric", "protocol"], sort=False).value
    found = groups.agg(mean="mean", error="sem", n="count").reset_index()
    half = student_t.ppf((1 + confidence) / 2, found.n - 1) * found.error
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half)
    return found[["metric", "protocol", "mean", "low", "high", "n"]]


def share(values: pd.Series) -> dict:
    """Of yes and no, 1 and 0: mean, Wilson's 95 % interval low to high, and n."""
    low, high = _wilson(int(values.sum()), len(values))
    return {"mean": values.mean(), "low": low, "high": high, "n": len(values)}


@cache  # the test that comes with it takes a hundred times as long
def _wilson(yes: int, n: int) -> tuple[float, float]:
    between = binomtest(yes, n).proportion_ci(method="wilson")
    return between.low, between.high


def mean_of(values: pd.Series) -> dict:
    """Of any values: mean, Student's 95 % interval low to high, and n."""
    mean, n = values.mean(), values.count()
    half = student_t.ppf(0.975, n - 1) * values.sem()
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}
