"""What was measured of masks, as tidy frames: overlaps described, routing curves, streams to hold the laws against.

Knows results, nothing of models.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from memoir.lab.evidence.table import results
from memoir.theory import overlap


def described(histograms: pd.DataFrame, k: int, tau: float) -> pd.DataFrame:
    """`overlap.describe` of each histogram of `real_masks.measure`: a row per kind, layer and way of centring."""
    by = [name for name in histograms.columns if name not in ("count", "pairs")]
    rows = []
    for key, group in histograms.groupby(by, sort=False):
        counts = np.bincount(group["count"], weights=group.pairs).astype(np.int64)
        rows.append(dict(zip(by, key, strict=True)) | overlap.describe(counts, k, tau))
    return pd.DataFrame(rows)


def routing_curves(best: pd.DataFrame) -> dict[str, tuple[np.ndarray, float, np.ndarray]]:
    """For each kind of wrong prompt, rephrasings against it at all thresholds: what `roc_curves` draws.

    best: rows of one data set at one N, of `real_masks.best_matches` with columns kind and share. Each value: rates of
    any match, the area under them, rates of a match with the rephrasing's own edit.
    """
    right = best[best.kind == "rephrasing"]
    own = own_share(best)
    curves = {}
    for kind, rows in best[best.kind != "rephrasing"].groupby("kind", sort=False):
        rates, area = overlap.roc(right.share.to_numpy(), rows.share.to_numpy())
        curves[kind] = rates, area, overlap.roc(own, rows.share.to_numpy())[0]
    return curves


def told_apart(overlaps: pd.DataFrame) -> pd.Series:
    """By panel, how often a rephrasing shares more of a mask than an irrelevant prompt does: the area under the ROC.

    overlaps: columns panel, pairs ("rephrasing", "irrelevant"), overlap.
    """
    shares = overlaps.groupby(["panel", "pairs"], sort=False).overlap.apply(np.array)
    panels = overlaps.panel.unique()
    areas = [overlap.roc(shares[panel, "rephrasing"], shares[panel, "irrelevant"])[1] for panel in panels]
    return pd.Series(areas, index=panels, name="told apart")


def own_share(best: pd.DataFrame) -> np.ndarray:
    """The best share of each rephrasing where its best match is its own edit, and 0 where it is another."""
    right = best[best.kind == "rephrasing"]
    return np.where(right.edit == right["query"], right.share, 0.0)


DEFAULT = ("first-100", "lasting")  # experiments whose streams run with the default settings


def committed_streams(profile: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Finished streams with the default settings: a label, and reliability by n_edits (teacher-forced)."""
    rows = results(*(f"{name}/*" for name in DEFAULT), profile=profile)
    # the model of capacity is of the paper's update; streams that begin later in a file answer other questions
    rows = rows.query("method == 'memoir' and update == 'sgd' and first == 0 and metric == 'reliability'")
    for (experiment, stream), own in rows[rows.protocol == "teacher-forced"].groupby(["experiment", "stream"]):
        yield f"{experiment} / {stream}", own.sort_values("n_edits")
