"""The sweeps over layers as tidy frames, and the rule that picks a layer. Knows results, nothing of models."""

from functools import lru_cache

import pandas as pd

from memoir import metrics
from memoir.lab.evidence import results, table
from memoir.lab.experiments.ablations import frames as ablations
from memoir.metrics import AVERAGED, GENERATED, TEACHER_FORCED
from memoir.models import own

PAPER = own.PAPER_DEPTH  # of LLaMA-3's 32 layers
PAPER_DEPTH = round(PAPER * 30)  # among SmolLM2's


def sweep(profile: str) -> pd.DataFrame:
    """One row per layer, seed, k, metric and protocol of the sweep on OpenFacts, with what its edits took.

    Columns layer, seed, k, threshold, metric, protocol, mean, low, high, n, and medians over edits: steps, last_loss
    (nats), seconds.
    """
    rows = table.results("layers/*", profile=profile)
    edits = {planned.stream.run: tables["edits"] for planned, _, tables in results.finished(profile, "layers")}
    took = pd.DataFrame({run: own[["steps", "last_loss", "seconds"]].median() for run, own in edits.items()}).T
    names = ["stream", "layer", "seed", "k", "threshold", "metric", "protocol", "mean", "low", "high", "n"]
    whole = rows[rows.metric.notna() & (rows.metric != "average")][names].astype({"layer": int, "seed": int, "k": int})
    return whole.join(took, on="stream").drop(columns="stream").reset_index(drop=True) if len(whole) else pd.DataFrame()


def recalibrated_sweep(profile: str, experiment: str) -> pd.DataFrame:
    """A sweep over layers, each at its own recalibrated τ, as `sweep` gives it.

    Its questions were all answered from memory (τ = 0).
    Columns run, model, layer, k, seed, threshold, metric, protocol, mean, low, high, n.
    """
    return _recalibrated(profile, experiment, results.stamp(profile, experiment)).copy()


@lru_cache(maxsize=8)
def _recalibrated(profile: str, experiment: str, _stamp: tuple) -> pd.DataFrame:
    found = []
    for one in ablations.read(profile, experiment):
        if ablations.RECALIBRATED in one.at:
            tau, asked = one.at[ablations.RECALIBRATED]
            summed = metrics.summary(ablations.forced(asked))
            about = {name: getattr(one, name) for name in ("run", "model", "layer", "k", "seed")}
            found.append(summed.assign(**about, threshold=tau))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def as_read(results: list[dict]) -> pd.DataFrame:
    """The metrics of a sweep's result files, with their layer; of one at τ = 0, at each layer's recalibrated τ.

    To a sweep at τ = 0 belong the untouched model's answers, without which it cannot be read.
    """
    if 0.0 in {one["parameters"]["editor"].get("threshold") for one in results}:
        streams = [one["parameters"]["stream"] for one in results]
        swept = recalibrated_sweep(streams[0]["profile"], streams[0]["experiment"])
        return swept[swept.run.isin([stream["run"] for stream in streams])]
    read = [pd.DataFrame(one["metrics"]).assign(layer=one["parameters"]["editor"]["layer"]) for one in results]
    return pd.concat(read).query("metric != 'average'")


def by_layer(sweep: pd.DataFrame) -> pd.DataFrame:
    """What a sweep came to: a row per layer, means over seeds.

    Columns layer, threshold, the metrics teacher-forced, and where the sweep has them "exact match": reliability
    generated, steps, last_loss, seconds.
    """
    forced = sweep[sweep.protocol == TEACHER_FORCED]
    metrics = forced.pivot_table(index="layer", columns="metric", values="mean", sort=False)
    exact = sweep[(sweep.protocol == GENERATED) & (sweep.metric == "reliability")].groupby("layer")["mean"].mean()
    took = forced.groupby("layer")[[name for name in ("steps", "last_loss", "seconds") if name in sweep]].mean()
    found = forced.groupby("layer")[["threshold"]].mean().join(metrics)
    return (found.assign(**{"exact match": exact}) if len(exact) else found).join(took).reset_index()


def averages(sweep: pd.DataFrame) -> pd.DataFrame:
    """The paper's average, of reliability, generalization and locality (teacher-forced), of each layer.

    Columns layer, average (over seeds), error: the standard error of that mean, from the records' intervals.
    """
    wanted = sweep.metric.isin(AVERAGED) & (sweep.protocol == TEACHER_FORCED)
    rows = sweep[wanted].assign(variance=lambda x: ((x.high - x.low) / 4) ** 2)  # an interval is four errors
    groups = rows.groupby("layer")
    n = groups.size()
    return pd.DataFrame({"average": groups["mean"].mean(), "error": groups.variance.sum() ** 0.5 / n}).reset_index()


def at_depth(layers: pd.Index, depth: float = PAPER) -> int:
    """Of the layers that were tried, the last of the model's among them, the one nearest to a share of its layers."""
    return min(layers, key=lambda layer: abs(layer - depth * (layers.max() + 1)))


def pick(sweep: pd.DataFrame) -> int:
    """The layer to edit: the highest of those whose average lies within one standard error of the best.

    Of equals the highest, because the layers above the edited one are what an edit has to compute.
    """
    found = averages(sweep)
    best = found.loc[found.average.idxmax()]
    return int(found[found.average >= best.average - best.error].layer.max())
