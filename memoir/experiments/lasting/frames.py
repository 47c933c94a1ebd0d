"""What finished streams of edits say: by number of edits and load, by age, and where answers were lost.

Frames from result files (see `runs.py`) for notebooks 03 and 04. Load is N / D, edits per column of the memory: the
number by which models of different size can be compared. Knows results, nothing of models.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from memoir.evidence import plan, published, runs
from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.theory import overlap

WIDTH = {  # D, for the load
    "smollm2-135m": 1536, "llama-3-8b-instruct": 14336, "mistral-7b": 14336, "llama-2-7b": 11008, "gpt-j-6b": 16384,
}  # fmt: skip
PAPER_DEPTH = round(27 / 32 * 30)  # the paper's layer 27 of LLaMA-3's 32, among SmolLM2's 30
LEARNT = 0.5  # nats: an edit whose last loss is above this was not learnt in the first place


def finished(profile: str, experiment: str) -> Iterator[tuple[plan.Planned, dict, dict[str, pd.DataFrame]]]:
    """Each stream of an experiment that has ended: its plan, its result file, its tables by name.

    One that failed numerically, or one of whose tables is not there any more, is left out.
    """
    for planned in plan.planned(profile, f"{experiment}/").values():
        if planned.ended:
            result = runs.read_result(profile, experiment, planned.stream.run)
            if "failed" not in result["parameters"]:
                yield planned, result, {name: pd.read_parquet(path) for name, path in planned.tables.items()}


def by_edits(profile: str, experiment: str) -> pd.DataFrame:
    """Means with intervals by stream, metric, protocol and n_edits, with the load N / D."""
    found = []
    for planned, result, _ in finished(profile, experiment):
        rows = pd.DataFrame(result["metrics"]).assign(stream=planned.stream.run, dataset=planned.stream.dataset)
        found.append(rows.assign(load=rows.n_edits / WIDTH[planned.model]))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def longest(profile: str) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]] | None:
    """The longest stream of ZsRE that has ended: its rows of `by_edits`, its tables by name. None before any has."""
    for experiment in ("lasting", "first-100"):
        tables = {planned.stream.run: tables for planned, _, tables in finished(profile, experiment)}
        if "zsre" in tables:
            ours = by_edits(profile, experiment)
            return ours[ours.stream == "zsre"], tables["zsre"]
    return None


def paper_by_load() -> pd.DataFrame:
    """MEMOIR on LLaMA-3-8B, ZsRE, as the paper prints it (Tables 1 and 4): columns n_edits, load, metric, value."""
    rows = pd.concat(
        [published.table(item, model="llama-3-8b-instruct", method="memoir") for item in ("Table 1", "Table 4")]
    )
    rows = rows[(rows.dataset == "zsre") & (rows.metric != "average")]
    return rows.assign(load=rows.n_edits / WIDTH["llama-3-8b-instruct"])[["n_edits", "load", "metric", "value"]]


def paper_by_age() -> pd.DataFrame:
    """MEMOIR's line of the paper's Figure 5: columns block (last edit of each hundred), value; read off the figure."""
    rows = published.table("Figure 5", method="memoir")
    blocks = rows.variant.str.extract(r"^block=(\d+)$")[0]
    return pd.DataFrame({"block": blocks.dropna().astype(int), "value": rows.value[blocks.notna()]})


def claims_beside(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """The paper's printed value, and ours at the same number of edits and at the same load, for each of its points.

    Ours is the ZsRE stream, teacher-forced; missing where no such number of edits was evaluated.
    """
    mine = ours[(ours.stream == "zsre") & (ours.protocol == TEACHER_FORCED)].set_index(["metric", "n_edits"])["mean"]
    rows = []
    for point in paper.itertuples():
        same_load = round(point.load * WIDTH["smollm2-135m"])
        values = [mine.get((point.metric, n)) for n in (point.n_edits, same_load)]
        rows.append([point.metric, point.n_edits, point.value, values[0], same_load, values[1]])
    names = ["metric", "edits", "paper, LLaMA-3-8B", "ours, same edits", "edits at the same load", "ours, same load"]
    return pd.DataFrame(rows, columns=names).sort_values(["metric", "edits"])


def by_age(questions: pd.DataFrame, blocks: int = 10) -> pd.DataFrame:
    """Mean teacher-forced value after the last edit, by when the edit was made (the paper's Figure 5).

    questions: a stream's, as `runs` keeps them. Columns metric, edits_before: the block's first edit, mean.
    """
    last = questions[questions.n_edits == questions.n_edits.max()]
    place = {record: i for i, record in enumerate(last.record.unique())}
    order = last.record.map(place)
    width = -(-len(place) // blocks)
    edited = last.metric.isin(["reliability", "generalization"])
    frame = last[edited].assign(edits_before=order[edited] // width * width)
    return frame.groupby(["metric", "edits_before"], as_index=False)[TEACHER_FORCED].mean()


def where_lost(questions: pd.DataFrame, edits: pd.DataFrame) -> pd.DataFrame:
    """Where the accuracy that is missing went: shares of 1 that add up, by metric and n_edits.

    answered: the mean itself. What is missing from it stands under "other edit" or "base model" where routing sent the
    question, and else under "not learnt" (the edit's own last loss was above LEARNT nats) or "overwritten" (learnt, and
    lost to later edits), or for a rephrasing "other wording": its own edit's prompt is still answered.
    """
    last_loss = dict(zip(questions.record.unique(), edits.last_loss, strict=False))
    own = questions[questions.metric == "reliability"].set_index(["n_edits", "record"])[TEACHER_FORCED]
    rows = questions[questions.metric.isin(["reliability", "generalization"])].copy()
    rows["to"] = rows.route.where(rows.route != "own edit", "overwritten")
    mine = rows.route == "own edit"
    rows.loc[mine & (rows.record.map(last_loss) > LEARNT), "to"] = "not learnt"
    kept = pd.Series(list(zip(rows.n_edits, rows.record, strict=True)), index=rows.index).map(own) == 1
    rows.loc[mine & kept & (rows.metric == "generalization"), "to"] = "other wording"
    rows["lost"] = 1 - rows[TEACHER_FORCED]
    total = rows.groupby(["metric", "n_edits"]).size()
    lost = rows.groupby(["metric", "n_edits", "to"]).lost.sum().unstack(fill_value=0).div(total, axis=0)
    return lost.assign(answered=1 - lost.sum(axis=1)).reset_index()


def drift(questions: pd.DataFrame, edits: pd.DataFrame) -> pd.DataFrame:
    """How far stored answers moved: quantiles over edits of nll now minus the edit's last loss, in nats, by n_edits."""
    own = questions[questions.metric == "reliability"]
    last_loss = dict(zip(questions.record.unique(), edits.last_loss, strict=False))
    moved = (own.nll - own.record.map(last_loss)).groupby(own.n_edits)
    return moved.quantile([0.1, 0.5, 0.9]).unstack().rename(columns="{:.0%}".format).reset_index()


def untouched(table: pd.DataFrame) -> pd.DataFrame:
    """What became of facts that were never edited, by n_edits.

    Columns: agreement with the untouched model, opened (share answered from memory), knew_kept (share of the facts
    known before that still are), perplexity before and now (of the true answers), overlap: mean and 99 % quantile.
    """
    groups = table.groupby("n_edits")
    found = pd.DataFrame(
        {
            "agreement": groups.agreement.mean(),
            "opened": groups.route.apply(lambda route: (route != "base model").mean()),
            "knew_kept": groups.apply(lambda rows: rows.knows[rows.knew].mean(), include_groups=False),
            "perplexity_before": np.exp(groups.nll_before.mean()),
            "perplexity": np.exp(groups.nll.mean()),
            "overlap": groups.overlap.mean(),
            "overlap_99": groups.overlap.quantile(0.99),
        }
    )
    return found.reset_index()


def overlap_law_at(table: pd.DataFrame, k: int, columns: int) -> pd.DataFrame:
    """The expected best share among n_edits independent masks, for D columns and for the D' that fits the first row.

    table: as `untouched` gives it. Columns n_edits, label, share.
    """
    first = table.iloc[0]
    fits = brentq(lambda D: overlap.best_share(int(first.n_edits), k, int(D))[0] - first.overlap, k + 1, 4 * columns)
    found = []
    for label, D in ((f"law, D = {columns}", columns), (f"law, D' = {int(fits)}", int(fits))):
        found += [(n, label, overlap.best_share(int(n), k, D)[0]) for n in table.n_edits]
    return pd.DataFrame(found, columns=["n_edits", "label", "share"])


def layers(profile: str) -> pd.DataFrame:
    """One row per layer, seed, k, metric and protocol of the sweep, with what its edits took.

    Columns layer, seed, k, threshold, metric, protocol, mean, low, high, n, and medians over edits: steps, last_loss
    (nats), seconds.
    """
    found = []
    for _, result, tables in finished(profile, "layers"):
        how = result["parameters"]["editor"]
        about = {name: how[name] for name in ("layer", "seed", "k", "threshold")}
        medians = tables["edits"][["steps", "last_loss", "seconds"]].median().to_dict()
        found.append(pd.DataFrame(result["metrics"]).assign(**about, **medians))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


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


def search(profile: str, experiment: str = "search") -> pd.DataFrame:
    """A search for settings: what was changed from the registered ones, what it cost and what it came to.

    Columns changed, steps (mean over edits), and of each metric (teacher-forced) its mean and, as ±, half
    its 95 % interval.
    """
    rows = []
    for planned, result, tables in finished(profile, experiment):
        changed = ", ".join(f"{name} = {value}" for name, value in planned.editor.items()) or "nothing: as registered"
        row = {"changed": changed, "steps": tables["edits"].steps.mean()}
        for found in result["metrics"]:
            if found["protocol"] == TEACHER_FORCED:
                row |= {found["metric"]: found["mean"], f"± {found['metric']}": found["high"] - found["mean"]}
        rows.append(row)
    return pd.DataFrame(rows)


def averages(sweep: pd.DataFrame) -> pd.DataFrame:
    """The paper's average, of reliability, generalization and locality (teacher-forced), of each layer.

    Columns layer, average (over seeds), error: the standard error of that mean, from the records' intervals.
    """
    wanted = sweep.metric.isin(["reliability", "generalization", "locality"]) & (sweep.protocol == TEACHER_FORCED)
    rows = sweep[wanted].assign(variance=lambda x: ((x.high - x["mean"]) / 2.0) ** 2)  # half an interval: 2 errors
    groups = rows.groupby("layer")
    n = groups.size()
    return pd.DataFrame({"average": groups["mean"].mean(), "error": groups.variance.sum() ** 0.5 / n}).reset_index()


def pick(sweep: pd.DataFrame) -> int:
    """The layer to edit: the highest of those whose average lies within one standard error of the best.

    Of equals the highest, because the layers above the edited one are what an edit has to compute.
    """
    found = averages(sweep)
    best = found.loc[found.average.idxmax()]
    return int(found[found.average >= best.average - best.error].layer.max())
