"""The metrics, each once, with its formula. Knows what a model answered; who asks it stands in `queryable.py`.

Protocols, always named: "teacher-forced" (the literature's; milder) and "generated" (greedy, from the prompt alone).
A teacher-forced value is token accuracy: the share of the n target tokens y_t with argmax p(· | prompt, y_<t) = y_t.
A generated value is exact match: 1 if the first n greedy tokens read as the target after `normalised`, else 0.
Long targets are judged by their perplexity, exp of the mean of -log p(y_t | prompt, y_<t), and texts on an edited
subject by how much of them is likely.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from memoir.queryable import Score
from memoir.texts import normalised

TEACHER_FORCED, GENERATED = "teacher-forced", "generated"
AVERAGED = ("reliability", "generalization", "locality")  # the paper's average is of these three
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
    about = [name for name in ("record", "subject", "metric") if name in questions]
    long = questions.melt(about, protocols, var_name="protocol").dropna(subset="value")
    return long.groupby([*about, "protocol"], sort=False, as_index=False).value.mean()


def with_average(table: pd.DataFrame) -> pd.DataFrame:
    """The same rows, and of each record that has all of `AVERAGED` their mean, as the metric "average"."""
    about = [name for name in ("record", "subject", "protocol") if name in table]
    parts = table[table.metric.isin(AVERAGED)].pivot_table(index=about, columns="metric", values="value", sort=False)
    if parts.shape[1] < len(AVERAGED):
        return table
    each = parts.dropna().mean(axis=1).rename("value").reset_index().assign(metric="average")
    return pd.concat([table, each], ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, 95 % interval and number of records of each metric and protocol, as `interval` gives them.

    table: as `evaluate` gives it. Columns metric, protocol, mean, low, high, n.
    """
    rows = []
    for (metric, protocol), group in table.groupby(["metric", "protocol"], sort=False):
        found = interval(group.value, group.get("subject"))
        rows.append({"metric": metric, "protocol": protocol} | found)
    return pd.DataFrame(rows, columns=["metric", "protocol", "mean", "low", "high", "n"])


def interval(values: pd.Series, subjects: pd.Series | None = None, *, bounded: bool = True) -> dict:
    """Mean, 95 % interval low to high, and n, of values on subjects: independent between subjects, not within one.

    subjects: of each value its subject; None: each has its own. bounded: values in [0, 1]. Their interval is Wilson's
    with the effective number of values, m (1 - m) / v, where v is the variance of the mean m that the sums of the
    subjects give (modified Wilson; Franco et al., 2019, J. Survey Stat. Methodol. 7). Near 1, where most means of token
    accuracy are, Student's interval misses four times as often as it says. Of other values the interval is a bootstrap
    (BCa) over subjects.
    """
    mean, sums, sizes = _by_subject(values, subjects)
    low, high = (_modified_wilson if bounded else _bootstrap)(mean, sums, sizes)
    return {"mean": mean, "low": low, "high": high, "n": len(values)}


def paired(one: pd.Series, other: pd.Series, subjects: pd.Series | None = None) -> dict:
    """The mean of one - other over the same records, with its 95 % interval (Student's, over subjects), and n."""
    mean, sums, sizes = _by_subject(one - other, subjects)
    half = stdtrit(len(sums) - 1, 0.975) * np.sqrt(_variance(mean, sums, sizes)) if len(sums) > 1 else np.inf
    return {"mean": mean, "low": float(mean - half), "high": float(mean + half), "n": len(one)}


def _by_subject(values: pd.Series, subjects: pd.Series | None) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean of the values, and of each subject the sum and the number of its own."""
    groups = np.arange(len(values)) if subjects is None else pd.factorize(subjects, use_na_sentinel=False)[0]
    return float(values.mean()), np.bincount(groups, values.to_numpy(float)), np.bincount(groups)


def _variance(mean: float, sums: np.ndarray, sizes: np.ndarray) -> float:
    """Of the mean of values whose sums over independent groups of these sizes are given (at least two groups)."""
    return ((sums - mean * sizes) ** 2).sum() / sizes.sum() ** 2 * len(sizes) / (len(sizes) - 1)


def _modified_wilson(mean: float, sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    groups = len(sizes)
    if groups == 1:
        return 0.0, 1.0
    variance = _variance(mean, sums, sizes)
    effective = mean * (1 - mean) / variance if variance > 0 else groups
    return _wilson(mean, float(effective), stdtrit(groups - 1, 0.975))


def _wilson(mean: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's interval of a share of n."""
    z2 = quantile**2 / n
    middle, half = mean + z2 / 2, np.sqrt(z2 * (mean * (1 - mean) + z2 / 4))
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    return float(min(max(low, 0.0), mean)), float(max(min(high, 1.0), mean))  # but for rounding they lie there


def _bootstrap(mean: float, sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    from scipy.stats import bootstrap  # which takes as long to import as half of torch

    if len(sums) < 2 or np.ptp(sums / sizes) == 0:
        return (np.nan, np.nan) if len(sums) < 2 else (mean, mean)
    found = bootstrap((sums, sizes), lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True, n_resamples=2000,
                      batch=100, rng=0).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def share(values: pd.Series) -> dict:
    """Of yes and no, 1 and 0: mean, Wilson's 95 % interval low to high, and n."""
    low, high = _wilson(float(values.mean()), len(values), ndtri(0.975))
    return {"mean": values.mean(), "low": low, "high": high, "n": len(values)}
