"""How many edits models of other widths keep, written many at once, against the load N / D.

Frames from the streams of `scale-lasting`, `scale-search`, `scale-batches` and `scale-one`, and from the results that
are set aside in `scale-by-traces`. Knows results, nothing of models.
"""

import json

import numpy as np
import pandas as pd

from memoir.lab.evidence import files, plan
from memoir.lab.evidence.results import finished
from memoir.lab.experiments.lasting.frames import by_edits
from memoir.lab.experiments.scale.frames import PAPER
from memoir.metrics import AVERAGED, TEACHER_FORCED
from memoir.models.registry import WIDTH

EXPERIMENT, SEARCH, BATCHES, BY_TRACES = "scale-lasting", "scale-search", "scale-batches", "scale-by-traces"
ONE_BY_ONE = "scale-one"
SMALL = "smollm2-135m"  # whose curve the others are compared with
OTHER_LAYER = "-layer-"  # in the name of a stream on another layer than the model's own
METRICS = [*AVERAGED]
UPDATES = {"sgd": "the paper's update", "rls": "rls"}


def kept() -> pd.DataFrame:
    """`by_edits` of each model in its own layer, the update as readers call it."""
    rows = _kept()
    return rows[~rows.stream.str.contains(OTHER_LAYER)].reset_index(drop=True) if len(rows) else rows


def by_layer(model: str) -> pd.DataFrame:
    """Reliability and generalization, teacher-forced, of a model on its own layer and on another, one of which has a
    massive activation: a row for each layer, update and metric, a column for each length that all of them reached."""
    rows = _kept()
    if not len(rows) or not rows[rows.model == model].stream.str.contains(OTHER_LAYER).any():
        return pd.DataFrame()
    rows = rows[(rows.model == model) & (rows.protocol == TEACHER_FORCED) & rows.metric.isin(METRICS[:2])]
    return rows.pivot_table(index=["layer", "update", "metric"], columns="n_edits", values="mean").dropna(axis=1)


def _kept(experiment: str = EXPERIMENT) -> pd.DataFrame:
    rows = by_edits("full", experiment)
    return rows.assign(update=rows["update"].map(UPDATES)) if len(rows) else rows


def from_the_law(table: pd.DataFrame) -> pd.DataFrame:
    """How far each larger model's metrics are from the small one's at the same load and update, teacher-forced.

    table: as `kept`. The small model's curve is drawn along log N / D between its lengths. Columns metric, model,
    layer, update, n_edits, load, mean, small: the curve's value, difference; a row for each metric and length within
    that curve.
    """
    rows, found = table[(table.protocol == TEACHER_FORCED) & table.metric.isin(METRICS)], []
    for (_, update, metric), own in rows[rows.model != SMALL].groupby(["stream", "update", "metric"], sort=False):
        alike = (rows.model == SMALL) & (rows["update"] == update) & (rows.metric == metric)
        small = rows[alike].sort_values("load")
        inside = own[own.load.between(small.load.min() * 0.99, small.load.max())]
        curve = np.interp(np.log(inside.load), np.log(small.load), small["mean"])
        found.append(inside.assign(small=curve, difference=inside["mean"] - curve))
    names = ["metric", "model", "layer", "update", "n_edits", "load", "mean", "small", "difference"]
    return pd.concat(found, ignore_index=True)[names] if found else pd.DataFrame(columns=names)


def largest(table: pd.DataFrame, paper: pd.DataFrame, share: float = 0.9) -> pd.DataFrame:
    """The largest number of edits after which so much of their tokens is still answered, for models by their width D.

    table: as `kept`; paper: as `lasting.frames.paper_by_load`. A curve is drawn along log N / D between the lengths at
    which it was asked. Columns model, D, update, seen: where the model's own curve, or the paper's, comes down to
    `share`, missing where it does not; scaled: where the small model's does, at the same load.
    """
    paper = paper[paper.metric == "reliability"].rename(columns={"value": "mean"})
    every = pd.concat([reliability(table), paper.assign(model=PAPER, update=UPDATES["sgd"])])
    falls = {key: falls_to(curve, share) for key, curve in every.groupby(["model", "update"])}
    found = [
        {
            "model": model,
            "D": width,
            "update": update,
            "seen": falls.get((model, update), np.nan) * width,
            "scaled": falls.get((SMALL, update), np.nan) * width,
        }
        for update in UPDATES.values()
        for model, width in sorted(WIDTH.items(), key=lambda item: item[1])
    ]
    return pd.DataFrame(found)


def reliability(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table like `by_edits` that are reliability, teacher-forced; maybe empty."""
    return table[(table.metric == "reliability") & (table.protocol == TEACHER_FORCED)] if len(table) else table


def falls_to(curve: pd.DataFrame, share: float = 0.9) -> float:
    """The load at which a curve (columns load, mean) first comes down to `share`; NaN where it does not."""
    curve = curve.sort_values("load")
    loads, means = np.log(curve.load.to_numpy()), curve["mean"].to_numpy()
    below = np.flatnonzero(means <= share)
    if not len(below) or below[0] == 0:
        return np.nan
    i = below[0]
    return float(np.exp(np.interp(share, [means[i], means[i - 1]], [loads[i], loads[i - 1]])))


def by_batch() -> pd.DataFrame:
    """What it means to write several edits at once: columns update, batch, seconds and steps an edit, and the three
    metrics, teacher-forced; a row for each update and number of edits at once."""
    rows = []
    for planned, result, tables in finished("full", BATCHES):
        rows.append({
            "update": UPDATES[planned.editor["update"]], "batch": planned.stream.batch,
            "seconds": tables["edits"].seconds.mean(), "steps": tables["edits"].steps.mean(),
            **means_at(result, planned.stream.at[-1]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def one_by_one() -> pd.DataFrame:
    """What the larger models keep of edits that are made one by one, beside the same ones written 64 at once: a row for
    each model, update, length of a stream of `scale-one` and batch. Columns these, load and the three metrics,
    teacher-forced."""
    if not len(alone := _kept(ONE_BY_ONE)):
        return alone
    rows = pd.concat([alone.assign(batch=1), kept().assign(batch=64)])
    rows = rows[(rows.protocol == TEACHER_FORCED) & rows.metric.isin(METRICS)]
    key = ["model", "update", "n_edits"]
    rows = rows.merge(alone[key].drop_duplicates())
    return rows.pivot(index=[*key, "load", "batch"], columns="metric", values="mean")[METRICS].reset_index()


def means_at(result: dict, n_edits: int, protocol: str = TEACHER_FORCED) -> dict[str, float]:
    """The three metrics of a result after so many edits; NaN for one that its records have not, or was not asked."""
    rows = [row for row in result["metrics"] if (row["protocol"], row["n_edits"]) == (protocol, n_edits)]
    means = {row["metric"]: row["mean"] for row in rows}
    return {metric: means.get(metric, np.nan) for metric in METRICS}


def by_traces() -> pd.DataFrame:
    """What rls came to before its c had a bound: columns stream, commit, at which it can be repeated, n_edits and the
    three metrics, teacher-forced."""
    rows = []
    for path in sorted((files.RESULTS / "full" / BY_TRACES).glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        means = pd.DataFrame(result["metrics"]).query("protocol == @TEACHER_FORCED")
        means = means.pivot(index="n_edits", columns="metric", values="mean").reset_index()
        rows.append(means.assign(stream=path.stem, commit=result["provenance"]["commit"][:7]))
    return pd.concat(rows, ignore_index=True)[["stream", "commit", "n_edits", *METRICS]] if rows else pd.DataFrame()


def at_load(stream: str, load: float) -> pd.Series | None:
    """The row of a stream's reliability, teacher-forced, at the length nearest to a load; None without the stream."""
    rows = reliability(kept())
    rows = rows[rows.stream == stream] if len(rows) else rows
    return rows.loc[(rows.load - load).abs().idxmin()] if len(rows) else None


def routed(stream: str) -> pd.DataFrame:
    """Where a stream's rephrasings went after each length, and what became of them: a row for each n_edits and route,
    columns share and accuracy (teacher-forced)."""
    if not len(found := _questions(stream)):
        return pd.DataFrame(columns=["share", "accuracy"])
    rows = found[found.metric == "generalization"].groupby(["n_edits", "route"])[TEACHER_FORCED].agg(["size", "mean"])
    share = rows["size"] / rows.groupby("n_edits")["size"].transform("sum")
    return pd.DataFrame({"share": share, "accuracy": rows["mean"]})


def whole(stream: str) -> pd.Series:
    """The share of a stream's prompts whose target has every token right under teacher forcing, so that greedy
    generation says all of it: by n_edits, over all that were asked."""
    if not len(found := _questions(stream)):
        return pd.Series(dtype=float)
    own = found[found.metric == "reliability"]
    return (own[TEACHER_FORCED] == 1).groupby(own.n_edits).mean()


def _questions(stream: str) -> pd.DataFrame:
    """What was asked in a finished stream of `scale-lasting`; empty where it has not ended."""
    streams = ((planned.stream.run, tables["questions"]) for planned, _, tables in finished("full", EXPERIMENT))
    return next((questions for run, questions in streams if run == stream), pd.DataFrame())


def searched() -> pd.DataFrame:
    """What was tried for each larger model: columns model, tried (what differs from the first), the three metrics after
    100 edits, average, and chosen: the best average."""
    rows, firsts = [], {}
    for planned, result, _ in finished("full", SEARCH):
        first = firsts.setdefault(planned.model, planned.editor)
        other = {name: value for name, value in planned.editor.items() if first.get(name) != value}
        rows.append({
            "model": planned.model,
            "tried": ", ".join(f"{name} {value}" for name, value in (other or first).items()),
            **means_at(result, planned.stream.at[-1]),
            "average": plan.average(result),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    if len(table):
        table["chosen"] = table.groupby("model").average.transform("max") == table.average
    return table
