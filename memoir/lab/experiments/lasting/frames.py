"""What finished streams of edits say: by number of edits and load, by age, and where answers were lost.

Frames from result files (`evidence/runs.py`) for notebooks 00 and 04. Load is N / D, edits per column of the memory:
the number by which models of different size can be compared. Knows results, nothing of models.
"""

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from memoir import metrics
from memoir.lab.evidence import published
from memoir.lab.evidence.results import finished
from memoir.lab.evidence.table import results
from memoir.metrics import TEACHER_FORCED
from memoir.models import registry
from memoir.models.registry import WIDTH
from memoir.theory import overlap
from memoir.write import LEARNT


def by_edits(profile: str, experiment: str) -> pd.DataFrame:
    """Of an experiment's streams the rows of `lab.results` that are of one metric: without the paper's average."""
    rows = results(f"{experiment}/*", profile=profile)
    return rows[rows.metric.notna() & (rows.metric != "average")].reset_index(drop=True)


def other_records(*datasets: str) -> pd.DataFrame:
    """`by_edits` of the streams that edit other records of these with another permutation; maybe empty."""
    rows = by_edits("full", "lasting-again")
    return rows[rows.dataset.isin(datasets)].assign(
        stream=lambda rows: (
            rows.dataset + ", other records" + (rows.targets == "true").map({True: ", true answers", False: ""})
        )
    )


def with_other_records(ours: pd.DataFrame) -> pd.DataFrame:
    """The streams of notebook 04, then those that edit other records, under the paper's update too."""
    other = other_records("zsre", "openfacts")
    return pd.concat([ours, other[other["update"] == "sgd"]], ignore_index=True) if len(other) else ours


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
    """MEMOIR's line of the paper's Figure 5: columns block (last edit of each hundred), value, load (at its end).

    Read off the figure.
    """
    rows = published.table("Figure 5", method="memoir")
    blocks = rows.variant.str.extract(r"^block=(\d+)$")[0]
    found = pd.DataFrame({"block": blocks.dropna().astype(int), "value": rows.value[blocks.notna()]})
    return found.assign(load=found.block.max() / WIDTH["llama-3-8b-instruct"])


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
    last_loss = dict(zip(questions.record.unique(), edits.last_loss, strict=True))
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
    last_loss = dict(zip(questions.record.unique(), edits.last_loss, strict=True))
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
    """The expected best share among n_edits independent masks, for D columns and for as many as fit the first row.

    table: as `untouched` gives it. Columns n_edits, label, share.
    """
    first = table.iloc[0]
    fits = brentq(lambda D: overlap.best_share(int(first.n_edits), k, int(D))[0] - first.overlap, k + 1, 4 * columns)
    found = []
    for label, D in ((f"law, D = {columns}", columns), (f"law, {int(fits)} columns", int(fits))):
        found += [(n, label, overlap.best_share(int(n), k, D)[0]) for n in table.n_edits]
    return pd.DataFrame(found, columns=["n_edits", "label", "share"])


def search(profile: str, experiment: str = "search") -> pd.DataFrame:
    """A search for settings: what was changed from the defaults, what it cost and what it came to.

    Columns changed, steps (mean over edits), and of each metric (teacher-forced) its mean and, as ±, half
    its 95 % interval.
    """
    rows = []
    for planned, result, tables in finished(profile, experiment):
        changed = ", ".join(f"{name} = {value}" for name, value in planned.editor.items()) or "nothing: the defaults"
        row = {"changed": changed, "steps": tables["edits"].steps.mean()}
        for found in result["metrics"]:
            if found["protocol"] == TEACHER_FORCED and found["metric"] != "average":
                row |= {found["metric"]: found["mean"], f"± {found['metric']}": (found["high"] - found["low"]) / 2}
        rows.append(row)
    return pd.DataFrame(rows)


def hundreds(profile: str) -> pd.DataFrame:
    """A hundred edits from several places of ZsRE's file, each in a fresh memory, and the first hundred one by one.

    Columns edits, then of each metric its teacher-forced mean: a row for each hundred, by its first record.
    """
    rows = pd.concat([by_edits(profile, "first-100"), by_edits(profile, "lasting").query("singles")])
    rows = rows.query("dataset == 'zsre' and protocol == @TEACHER_FORCED and n_edits == 100 - 99 * singles")
    wide = rows.pivot_table(index=["first", "singles"], columns="metric", values="mean", sort=False).sort_index()
    names = [f"{n:,} to {n + 99:,}, " + ("each alone" if alone else "in a row") for n, alone in wide.index]
    return wide.reset_index(drop=True).rename_axis(columns=None).assign(edits=names)[["edits", *wide]]


def beside_the_paper(experiment: str, run: str, n_edits: int) -> pd.DataFrame | None:
    """Our means with intervals beside the paper's LLaMA-3 numbers (Table 1); None when the run is not committed."""
    ours = by_edits("full", experiment)
    ours = ours[(ours.stream == run) & (ours.n_edits == n_edits)]
    if not len(ours):
        return None
    ours = ours[["metric", "protocol", "mean", "low", "high", "n"]]
    paper = published.table("Table 1", model="llama-3-8b-instruct", method="memoir", n_edits=n_edits)
    # the paper's values are teacher-forced: beside a generated value they would mislead
    paper = paper.assign(protocol=metrics.TEACHER_FORCED)[["metric", "protocol", "value"]].rename(
        columns={"value": "paper"}
    )
    return ours.merge(paper, how="left").round(3)


def paper_at_equal_load() -> pd.DataFrame:
    """The paper's LLaMA-3 numbers after 1,000 edits of ZsRE and more, at SmolLM2's n_edits of the same load N / D.

    Columns n_edits, metric, value, printed: the paper's number of edits.
    """
    points = paper_by_load().query("n_edits >= 1000")
    ours = (points.load * registry.WIDTH["smollm2-135m"]).round().astype(int)
    return points.assign(printed=points.n_edits, n_edits=ours)[["n_edits", "metric", "value", "printed"]]
