"""How many edits models of other widths keep, written many at once, against the load N / D.

Frames from the streams of `scale-lasting` and `scale-search`. Knows results, nothing of models.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from memoir.evidence import plan
from memoir.evidence.results import finished
from memoir.metrics import TEACHER_FORCED
from memoir.models.registry import WIDTH

EXPERIMENT, SEARCH = "scale-lasting", "scale-search"
SMALL = "smollm2-135m"  # whose curve the others are compared with
OTHER_LAYER = "-layer-"  # in the name of a stream on another layer than the model's own
UPDATES = {"sgd": "the paper's update", "rls": "rls"}


def kept() -> pd.DataFrame:
    """Means with intervals: columns model, D, layer, update, batch, stream, n_edits, load, metric, protocol, mean..."""
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
    found = [
        pd.DataFrame(result["metrics"]).assign(
            model=planned.model, D=WIDTH[planned.model], layer=result["parameters"]["editor"]["layer"],
            update=UPDATES[result["parameters"]["editor"].get("update", "sgd")], batch=planned.stream.batch,
            stream=planned.stream.run,
        )
        for planned, result, _ in finished("full", EXPERIMENT)
    ]  # fmt: skip
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return table.assign(load=table.n_edits / table.D) if len(table) else table


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
    rows = pd.DataFrame([_tried(*one) for one in finished("full", SEARCH)])
    if len(rows):
        rows["chosen"] = rows.groupby("model").average.transform("max") == rows.average
    return rows


def _tried(planned: plan.Planned, result: dict, _: dict[str, pd.DataFrame]) -> dict:
    first = next(_first(planned))
    other = {name: value for name, value in planned.editor.items() if first.editor.get(name) != value}
    means = {row["metric"]: row["mean"] for row in result["metrics"] if row["protocol"] == TEACHER_FORCED}
    return {
        "model": planned.model,
        "tried": ", ".join(f"{name} {value}" for name, value in other.items()) or f"layer {planned.editor['layer']}",
        **{metric: means[metric] for metric in ("reliability", "generalization", "locality")},
        "average": plan.average(result),
    }


def _first(planned: plan.Planned) -> Iterator[plan.Planned]:
    streams = plan.planned("full", f"{SEARCH}/").values()
    return (one for one in streams if one.model == planned.model)
