"""What a stream that answered every question from memory (τ = 0) would have said at every other τ.

Neither an edit nor the best stored match of a question depends on τ; τ alone decides whether the match or the base
model answers. So one evaluation with every question answered from memory, and one of the untouched model (method
"none" of the plan) on the same records, hold the metrics for all thresholds. Knows results, nothing of models.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from memoir import tophash
from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.theory import overlap

# a probe's columns and what they hold where the base model answers: a column of the table, or a value
UNTOUCHED = {"knows": True, "agreement": 1.0, "nll": "nll_before", "won": "won_before", "opened": False}


def gated(opened: pd.DataFrame, closed: pd.DataFrame, tau: float) -> pd.DataFrame:
    """The questions of a stream as they would have been answered at τ = tau.

    opened: with every question answered from memory; closed: the untouched model's, of the same records; both as
    `asking.ask` gives them, with n_edits. ValueError when `closed` lacks a question. Generated values are missing
    where either was not asked.
    """
    base, rows = _beside(opened, closed), opened.copy()
    shut = rows.overlap < tau
    for name in base:
        rows[name] = np.where(shut, base[name], rows[name])
    return rows.assign(route=rows.route.mask(shut, "base model"))


def gated_probe(table: pd.DataFrame, tau: float) -> pd.DataFrame:
    """The table of a probe as it would have been at τ = tau. Methods that do not route are left as they are."""
    shut, found = table.overlap.astype(float) < tau, table.copy()
    for name, before in UNTOUCHED.items():
        if name in found:
            found[name] = found[name].mask(shut, found[before] if isinstance(before, str) else before)
    return found


def calibrated(irrelevant: pd.DataFrame, k: int, rate: float = 0.01) -> float:
    """τ by the rule of `Memoir.calibrate`, from the table of an "irrelevant" probe: at most `rate` of it is opened."""
    return tophash.threshold_for((irrelevant.overlap * k).round().astype(int).to_numpy(), k, rate)


def sweep(opened: pd.DataFrame, closed: pd.DataFrame, taus: Iterable[float]) -> pd.DataFrame:
    """Mean teacher-forced value of each metric at each τ, and the share of its questions answered from memory.

    opened, closed: as for `gated`, of one length. Columns tau, metric, mean, opened.
    """
    tried = pd.Index(taus, name="tau")
    shut = opened.overlap.to_numpy()[:, None] < tried.to_numpy()  # a row per question, a column per τ
    here, there = (table[[TEACHER_FORCED]] for table in (opened, _beside(opened, closed)))
    values = pd.DataFrame(np.where(shut, there, here), opened.index, tried)
    mean = values.groupby([opened.record, opened.metric], sort=False).mean().groupby("metric", sort=False).mean()
    from_memory = pd.DataFrame(~shut & (opened[["route"]] != "base model").to_numpy(), opened.index, tried)
    found = {"mean": mean, "opened": from_memory.groupby(opened.metric).mean()}
    return pd.DataFrame({name: table.T.stack() for name, table in found.items()}).reset_index()


def roc(opened: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """How well overlap tells rephrasings from irrelevant questions: a row per τ, and the area under the curve.

    Columns tau, own: share of rephrasings matched to their own edit, irrelevant: share of irrelevant questions opened.
    A rephrasing whose best match is another edit never counts as found, so `own` may end below 1.
    """
    asked = opened[opened.metric == "generalization"]
    right = asked.overlap.where(asked.route == "own edit", -1.0).to_numpy()
    curve, area = overlap.roc(right, opened[opened.metric == "locality"].overlap.to_numpy())
    table = pd.DataFrame(curve, columns=["tau", "own", "irrelevant"])
    return table[table.tau >= 0], area


def _beside(opened: pd.DataFrame, closed: pd.DataFrame) -> pd.DataFrame:
    """What the untouched model answered to each row of `opened`, of the columns that both have. See `gated`."""
    key = ["record", "metric", "place"]
    values = [name for name in (TEACHER_FORCED, GENERATED, "nll") if name in opened and name in closed]
    base = _placed(closed).groupby(key)[values].first()  # a question of several lengths has one answer
    found = base.reindex(pd.MultiIndex.from_frame(_placed(opened)[key])).set_axis(opened.index)
    if found[TEACHER_FORCED].isna().any():
        raise ValueError("The untouched model was not asked all questions of this stream: the records differ.")
    return found


def _placed(questions: pd.DataFrame) -> pd.DataFrame:
    """With a column place: which of a record's questions of one metric a row is."""
    place = questions.groupby(["n_edits", "record", "metric"]).cumcount()
    return questions.assign(place=place)
