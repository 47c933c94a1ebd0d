"""How many edits models of other widths keep, written many at once, against the load N / D.

Frames from the streams of `scale-lasting` and `scale-search`. Knows results, nothing of models.
"""

import numpy as np
import pandas as pd

from memoir.evidence import plan
from memoir.evidence.results import finished
from memoir.experiments.lasting.frames import by_edits
from memoir.metrics import TEACHER_FORCED

EXPERIMENT, SEARCH = "scale-lasting", "scale-search"
SMALL = "smollm2-135m"  # whose curve the others are compared with
OTHER_LAYER = "-layer-"  # in the name of a stream on another layer than the model's own
UPDATES = {"sgd": "the paper's update", "rls": "rls"}


def kept() -> pd.DataFrame:
    """`by_edits` of each model in its own layer, the update as readers call it."""
    rows = _kept()
    return rows[~rows.stream.str.contains(OTHER_LAYER)].reset_index(drop=True) if len(rows) else rows


def by_layer() -> pd.DataFrame:
    """Reliability and generalization, teacher-forced, of the small model on a layer with a massive activation and on
    its own one: a row for each layer, update and metric, a column for each length that both reached."""
    rows = _kept()
    if not len(rows) or not rows.stream.str.contains(OTHER_LAYER).any():
        return pd.DataFrame()
    rows = rows[
        (rows.model == SMALL) & (rows.protocol == TEACHER_FORCED) & rows.metric.isin(["reliability", "generalization"])
    ]
    wide = rows.pivot_table(index=["layer", "update", "metric"], columns="n_edits", values="mean")
    return wide.dropna(axis=1)


def _kept() -> pd.DataFrame:
    rows = by_edits("full", EXPERIMENT)
    return rows.assign(update=rows["update"].map(UPDATES)) if len(rows) else rows


def from_the_law(table: pd.DataFrame) -> pd.DataFrame:
    """How far each larger model's reliability is from the small one's at the same load and update, teacher-forced.

    table: as `kept`. The small model's curve is drawn along log N / D between its lengths. Columns model, layer,
    update, n_edits, load, mean, small: the curve's value, difference; a row for each length within that curve.
    """
    rows = table[(table.metric == "reliability") & (table.protocol == TEACHER_FORCED)]
    found = []
    for _, own in rows[rows.model != SMALL].groupby(["stream"]):
        small = rows[(rows.model == SMALL) & (rows["update"] == own["update"].iloc[0])].sort_values("load")
        inside = own[own.load.between(small.load.min() * 0.99, small.load.max())]
        curve = np.interp(np.log(inside.load), np.log(small.load), small["mean"])
        found.append(inside.assign(small=curve, difference=inside["mean"] - curve))
    names = ["model", "layer", "update", "n_edits", "load", "mean", "small", "difference"]
    return pd.concat(found, ignore_index=True)[names] if found else pd.DataFrame(columns=names)


def at_load(stream: str, load: float) -> pd.Series | None:
    """The row of a stream's reliability, teacher-forced, at the length nearest to a load; None without the stream."""
    rows = kept()
    rows = (
        rows[(rows.stream == stream) & (rows.metric == "reliability") & (rows.protocol == TEACHER_FORCED)]
        if len(rows)
        else rows
    )
    return rows.loc[(rows.load - load).abs().idxmin()] if len(rows) else None


def searched() -> pd.DataFrame:
    """What was tried for each larger model: columns model, tried (what differs from the first), the three metrics after
    100 edits, average, and chosen: the best average."""
    rows, firsts = [], {}
    for planned, result, _ in finished("full", SEARCH):
        first = firsts.setdefault(planned.model, planned.editor)
        other = {name: value for name, value in planned.editor.items() if first.get(name) != value}
        means = {row["metric"]: row["mean"] for row in result["metrics"] if row["protocol"] == TEACHER_FORCED}
        rows.append({
            "model": planned.model,
            "tried": ", ".join(f"{name} {value}" for name, value in (other or first).items()),
            **{metric: means[metric] for metric in ("reliability", "generalization", "locality")},
            "average": plan.average(result),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    if len(table):
        table["chosen"] = table.groupby("model").average.transform("max") == table.average
    return table
