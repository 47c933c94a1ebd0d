"""The rows of notebook 08: each ablation at the threshold held and recalibrated, over its seeds, beside the paper's.

Every stream of the experiment "ablations" answers all questions from memory (`evidence/thresholds.py`) and is named
<row>-seed-<s>; the stream none-seed-<s> asked the untouched model the same questions. Knows results, nothing of models.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from memoir import metrics
from memoir.lab.evidence import published, results, thresholds
from memoir.lab.evidence.ablated import Unedited
from memoir.lab.experiments.lasting import frames as lasting
from memoir.metrics import TEACHER_FORCED
from memoir.models import presets, registry

RATE = 0.01  # of held-out irrelevant questions that a recalibrated τ opens at most
HELD, RECALIBRATED, ALWAYS, BASE = "τ held", "τ recalibrated", "always open", "untouched"
PARTS = metrics.AVERAGED
PAPER_D, PAPER_K = 14336, (512, 1024, 2048, 4096, 8192, 14336)


@dataclass(frozen=True)
class Row:
    """A row's part of the method, its label, and where the paper prints it (item and variant), if it does."""

    part: str
    label: str
    item: str | None = None
    variant: str | None = None


ROWS = {  # by the name of the stream, without its seed
    "default": Row("default", "default", "Table 5", "full"),
    "none": Row("no editing", "no editing"),
    "own": Row("answering", "the question's own mask", "Table 5", "no-activation"),
    "whole": Row("answering", "no mask", "Table 5", "no-activation"),
    "top-k": Row("columns", "top-k, not permuted", "Table 12", "topk-only"),
    "values": Row("columns", "largest values, not centred"),
    "hash": Row("columns", "hash of the prompt", "Table 12", "hash"),
    "random": Row("columns", "random each time", "Table 12", "random"),
    "background-0": Row("centring", "0 prompts: plain mean", "Table 11", "centering=0"),
    "background-10": Row("centring", "10 prompts", "Table 11", "centering=10"),
    "background-1000": Row("centring", "1,000 prompts", "Table 11", "centering=1000"),
    "last": Row("feature", "last token"),
    "last-centred": Row("feature", "last token, centred"),
    "prefixes-2": Row("prefixes", "2"),
    "prefixes-5": Row("prefixes", "5"),
    "prefixes-10": Row("prefixes", "10"),
    "lr-1-steps-10": Row("steps", "lr 1, 10 steps"),
    "lr-1-steps-40": Row("steps", "lr 1, 40 steps"),
    "lr-4-steps-10": Row("steps", "lr 4, 10 steps"),
    "lr-16-steps-10": Row("steps", "lr 16, 10 steps"),
    "lr-16-steps-40": Row("steps", "lr 16, 40 steps"),
    "decay": Row("steps", "weight decay 1e-5"),
    "paper-settings": Row("steps", "all of the paper's"),
    "bfloat16": Row("precision", "bfloat16"),
    "float16": Row("precision", "float16"),
}


def row_of(name: str, size: int) -> Row:
    """The row of a stream's name without its seed; k-<k> stands for the paper's k at the nearest k/D. KeyError else."""
    if found := re.fullmatch(r"k-(\d+)", name):
        k = int(found[1])
        counterpart = min(PAPER_K, key=lambda printed: abs(np.log(printed / PAPER_D * size / k)))
        return Row("k", f"k/D = {k / size:.2f}", "Figure 6", f"k={counterpart}")
    return ROWS[name]


@dataclass(frozen=True)
class Read:
    """A finished stream as read at several thresholds: at[how] is τ and the questions of its last length at this τ."""

    run: str
    row: str
    seed: int
    model: str
    layer: int | None
    k: int | None
    D: int
    n_edits: int
    at: dict[str, tuple[float, pd.DataFrame]]


def read(profile: str, experiment: str = "ablations") -> tuple[Read, ...]:
    """Every finished stream whose questions the untouched model was asked too."""
    return _read(profile, experiment, results.stamp(profile, experiment))


@lru_cache(maxsize=8)
def _read(profile: str, experiment: str, _stamp: tuple) -> tuple[Read, ...]:
    return tuple(_reading(profile, experiment))


def _reading(profile: str, experiment: str) -> Iterator[Read]:
    finished = results.finished(profile, experiment)
    ended = [(*_named(planned.stream.run), planned, result, tables) for planned, result, tables in finished]
    untouched = [one for one in ended if one[2].method == Unedited.method]
    closed = {(planned.model, seed): tables["questions"] for _, seed, planned, _, tables in untouched}
    for name, seed, planned, result, tables in ended:
        if (planned.model, seed) not in closed:
            continue
        n, settings = planned.stream.at[-1], result["parameters"]["editor"]
        k = settings.get("k")
        asked = tables["questions"].query("n_edits == @n")
        unedited = planned.method == Unedited.method
        at = {BASE if unedited else ALWAYS: (0.0, asked)}
        if not unedited and name not in ("own", "whole"):
            taus = {HELD: presets.settings(planned.model)["threshold"]}
            for key in tables:
                if key.startswith("irrelevant-"):
                    taus[RECALIBRATED] = thresholds.calibrated(tables[key], k, RATE)
            base = closed[planned.model, seed]
            at |= {how: (tau, thresholds.gated(asked, base, tau)) for how, tau in taus.items()}
        about = (planned.stream.run, name, seed, planned.model, settings.get("layer"), k)
        yield Read(*about, registry.WIDTH[planned.model], n, at)


def rows(profile: str, experiment: str = "ablations") -> pd.DataFrame:
    """Teacher-forced means over the records of all seeds: a row per ablation, threshold and metric.

    Columns row, part, label, item, variant, k, D, n_edits, how (HELD, RECALIBRATED, ALWAYS or BASE), tau (mean over
    the seeds), seeds (how many), metric, mean, low, high, n, least and most (of the seeds' own means), paper,
    default: the mean of the default settings, τ held, over the same seeds and so the same records, and difference,
    at_least, at_most: from the default, record by record. Seeds that no
    ablation has are left out.
    """
    return _rows(profile, experiment, results.stamp(profile, experiment)).copy()


@lru_cache(maxsize=8)
def _rows(profile: str, experiment: str, _stamp: tuple) -> pd.DataFrame:
    found: dict[tuple, list] = {}
    every = read(profile, experiment)
    ablated = {one.seed for one in every if one.row not in ("default", Unedited.method)}
    for one in every:
        if ablated and one.seed not in ablated:
            continue
        for how, (tau, asked) in one.at.items():
            values = forced(asked)
            own = found.setdefault((one.row, how, one.k, one.D, one.n_edits), [])
            own.append((tau, values.assign(record=values.record + f" of seed {one.seed}", seed=one.seed)))
    tables = []
    held = [own for (name, how, *_), several in found.items() if (name, how) == ("default", HELD) for _, own in several]
    held = pd.concat(held) if held else pd.DataFrame(columns=["record", "seed", "metric", "value"])
    for (name, how, k, D, n_edits), several in found.items():
        values, row = [own for _, own in several], row_of(name, D)
        pooled = pd.concat(values)
        beside = held[held.seed.isin(pooled.seed)].groupby("metric").value.mean()
        own = pd.concat([one.groupby("metric").value.mean() for one in values], axis=1)
        about = dict(row=name, part=row.part, label=row.label, item=row.item, variant=row.variant, k=k, D=D, how=how)
        table = metrics.summary(pooled).drop(columns="protocol")
        table = table.merge(_against(pooled, held), on="metric", how="left")
        table = table.assign(**about, n_edits=n_edits, tau=np.mean([tau for tau, _ in several]), seeds=len(several))
        spread = {"least": table.metric.map(own.min(axis=1)), "most": table.metric.map(own.max(axis=1))}
        tables.append(table.assign(**spread, default=table.metric.map(beside)))
    if not tables:
        return pd.DataFrame(columns=["row", "how", "metric", "item", "k", "D"])
    together = pd.concat(tables, ignore_index=True).astype({"k": float})
    return together.merge(_paper(), how="left", on=["item", "variant", "metric"])


def _against(pooled: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """The difference from the default settings, τ held, record by record: columns metric, difference, at_least,
    at_most (its 95 % interval)."""
    rows = []
    both = pooled.merge(held, on=["record", "metric"], suffixes=("", "_held"))
    for metric, pairs in both.groupby("metric", sort=False):
        found = metrics.paired(pairs.value, pairs.value_held, pairs.get("subject"))
        rows.append((metric, found["mean"], found["low"], found["high"]))
    return pd.DataFrame(rows, columns=["metric", "difference", "at_least", "at_most"])


def _paper() -> pd.DataFrame:
    items = ("Table 5", "Table 11", "Table 12", "Figure 6")
    table = pd.concat([published.table(item) for item in items])
    return table[["item", "variant", "metric", "value"]].rename(columns={"value": "paper"})


def paper_by_k() -> pd.DataFrame:
    """The points of the paper's Figure 6, read off the figure: columns share (k/D), metric, value."""
    table = published.table("Figure 6")
    return table.assign(share=table.variant.str.removeprefix("k=").astype(int) / PAPER_D)[["share", "metric", "value"]]


def beside_the_paper(table: pd.DataFrame, item: str) -> pd.DataFrame:
    """Our rows of one of the paper's tables, each with the paper's numbers: LLaMA-3-8B, 1,000 edits of ZsRE.

    The row default stands for the paper's own standard row of every table.
    """
    standard = {"Table 5": "full", "Table 11": "centering=100", "Table 12": "tophash", "Figure 6": "k=4096"}[item]
    own = table[(table["item"] == item) & (table.row != "default")]
    default = table[table.row == "default"].drop(columns="paper").assign(item=item, variant=standard)
    both = pd.concat([own, default.merge(_paper(), how="left", on=["item", "variant", "metric"])])
    both = both[both.metric.isin(PARTS) & (both.how != ALWAYS) | both.row.isin(["own", "whole"])]
    wide = both.pivot_table(index=["label", "variant", "how", "tau"], columns="metric", values=["mean", "paper"])
    wide.columns = [f"{metric}{', paper' if kind == 'paper' else ''}" for kind, metric in wide.columns]
    return wide.reset_index()


def curves(profile: str, experiment: str = "ablations", row: str = "default") -> tuple[pd.DataFrame, list[float]]:
    """A row's metrics by τ, columns seed and those of `thresholds.sweep`, and each seed's area of `thresholds.roc`."""
    found = {(one.row, one.seed): next(iter(one.at.values()))[1] for one in read(profile, experiment)}
    swept, areas = [], []
    for (name, seed), asked in found.items():
        if name == row:
            taus = np.linspace(0, 1, 51)
            swept.append(thresholds.sweep(asked, found[Unedited.method, seed], taus).assign(seed=seed))
            areas.append(thresholds.roc(asked)[1])
    return pd.concat(swept or [pd.DataFrame()]), areas


def drift(profile: str, experiment: str) -> pd.DataFrame:
    """What weight decay does to stored answers: reliability by when the edit was made, with and without it.

    Columns row, edits_before (in tenths of the stream), reliability (τ held, mean over the seeds).
    """
    found = []
    for one in read(profile, experiment):
        if one.row in ("default", "decay"):
            aged = lasting.by_age(one.at[HELD][1])
            found.append(aged[aged.metric == "reliability"].assign(row=one.row))
    if not found:
        return pd.DataFrame(columns=["row", "edits_before", TEACHER_FORCED])
    return pd.concat(found).groupby(["row", "edits_before"], as_index=False)[TEACHER_FORCED].mean()


def forced(asked: pd.DataFrame) -> pd.DataFrame:
    """The teacher-forced values alone, per record; generated ones were not asked of every stream."""
    return metrics.per_record(asked.drop(columns=metrics.GENERATED, errors="ignore"))


def _named(run: str) -> tuple[str, int]:
    name, _, seed = run.partition("-seed-")
    return name, int(seed or 0)
