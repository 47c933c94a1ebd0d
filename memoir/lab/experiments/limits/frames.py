"""What stands around an edit, from finished streams; changed minds and more, which are measured here.

Knows results and records; `minds.py`, `lengths.py` and `hops.py` edit, `many.py` routes.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import metrics
from memoir.behaviour import behaviour
from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.lab.evidence import files, plan, results
from memoir.lab.experiments.limits import hops, lengths, many, minds
from memoir.lab.experiments.retention import frames as retention
from memoir.models import identity

EXPERIMENT = "limits"
LABELS = {"paper": "as in the paper", "rls": "rls", "meaning": "rls, routed by meaning"}
UPDATES = {"as in the paper": {}, "rls": {"update": "rls"}}
# KnowEdit's kinds by the paper's names of Table 14, and what is read of each
PORTABILITY = {
    "reliability": ("edited prompt", "accuracy"), "subject aliasing": ("subject aliasing", "accuracy"),
    "reasoning": ("reasoning", "accuracy"), "logical_generalization": ("logical generalization", "accuracy"),
    "specificity": ("relation specificity", "kept"),
}  # fmt: skip
SHARES = ("routed", "target", "target_before", "right", "right_before")
MEASURES = (*SHARES, "accuracy", "kept")
COLUMNS = ["dataset", "label", "n_edits", "kind", "measure", "mean", "low", "high", "n"]


def answers(profile: str) -> pd.DataFrame:
    """What is answered around the edits of every finished stream: `COLUMNS`, with 95 % intervals.

    measure: "routed" (to any edit), "target" and "target_before" (the edit's target is said, now and by the untouched
    model), "right" and "right_before" (the right answer is), with Wilson's intervals; "accuracy" (of the right answer's
    tokens) and "kept" (arg-max tokens as the untouched model's), with the modified one, see `metrics.interval`.
    """
    return _answers(profile, results.stamp(profile, EXPERIMENT)).copy()


@lru_cache(maxsize=8)
def _answers(profile: str, _stamp: tuple) -> pd.DataFrame:
    found = []
    for dataset, label, table in _finished(profile):
        for (n, kind), rows in table.groupby(["n_edits", "kind"], sort=False):
            here = {"dataset": dataset, "label": label, "n_edits": n, "kind": kind}
            found += [here | measured(rows[name].dropna(), name) for name in MEASURES if rows[name].notna().any()]
    return pd.DataFrame(found, columns=COLUMNS)


def _finished(profile: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Of each stream that has ended: its data set, its label, and what was asked, with whether it was routed."""
    for planned, _, tables in results.finished(profile, EXPERIMENT):
        table = tables["around"].assign(routed=lambda rows: (rows.route != "base model").astype(float))
        yield planned.stream.dataset, _label(planned), table


def _label(planned: plan.Planned) -> str:
    return LABELS[planned.stream.run.rpartition("-")[2]]


def measured(values: pd.Series, name: str) -> dict:
    """A mean with its 95 % interval: columns measure, mean, low, high, n."""
    return {"measure": name} | (metrics.share if name in SHARES else metrics.interval)(values)


def by_metric(table: pd.DataFrame) -> pd.DataFrame:
    """Of a stream's table of questions those of `PORTABILITY`: columns n_edits, metric, measure, mean, low, high, n."""
    found = []
    for n, rows in table.groupby("n_edits"):
        for metric, (kind, measure) in PORTABILITY.items():
            if len(values := rows[rows.kind == kind][measure].dropna()) > 1:
                found.append({"n_edits": n, "metric": metric} | measured(values, measure))
    return pd.DataFrame(found)


def portability(found: pd.DataFrame) -> pd.DataFrame:
    """Of what `answers` gave: KnowEdit's numbers as the paper's Table 14 has RippleEdits', a row per label and length.

    Columns label, n_edits, those of `PORTABILITY`, and average, of the three that the paper averages.
    """
    rows = []
    for (label, n), here in found[found.dataset == "knowedit"].groupby(["label", "n_edits"], sort=False):
        at = here.set_index(["kind", "measure"])["mean"]
        row = {"label": label, "n_edits": n} | {name: at.get(where, np.nan) for name, where in PORTABILITY.items()}
        row["average"] = np.mean([row[name] for name in ("reliability", "logical_generalization", "specificity")])
        rows.append(row)
    return pd.DataFrame(rows, columns=["label", "n_edits", *PORTABILITY, "average"])


def by_relation(profile: str, kind: str, least: int = 5) -> pd.DataFrame:
    """How often the edit's target is said to questions of a kind, by the edit's relation, worst first.

    Columns label, relation, n, routed, target; relations with fewer than `least` questions are left out.
    """
    found = []
    for _, label, table in _finished(profile):
        rows = table[(table.kind == kind) & table.relation.notna() & (table.n_edits == table.n_edits.max())]
        groups = rows.groupby("relation")
        each = groups.agg(n=("record", "count"), routed=("routed", "mean"), target=("target", "mean")).reset_index()
        found.append(each[each.n >= least].assign(label=label))
    table = pd.concat(found) if found else pd.DataFrame(columns=["label", "relation", "n", "routed", "target"])
    return table.sort_values(["label", "routed"], ascending=[True, False]).reset_index(drop=True)


def ability(profile: str) -> pd.DataFrame:
    """General ability after the edits of the streams that asked for it: label, n_edits, `retention.abilities`."""
    rows = []
    for planned, _, tables in results.finished(profile, EXPERIMENT):
        if {"text", "choices"} <= tables.keys():
            for n, text in tables["text"].groupby("n_edits"):
                choices = tables["choices"][tables["choices"].n_edits == n]
                rows.append({"label": _label(planned), "n_edits": n} | retention.abilities(text, choices))
    return pd.DataFrame(rows)


def run(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: dict) -> None:
    """Measure what streams do not: a result file for each of `MEASURED`, not again while it is of the same.

    What lacks a data set is left out.
    """
    weights = identity.weights_hash(model)
    for name, (datasets, measure, keys, updates) in MEASURED.items():
        path, dataset = files.result_path("full", EXPERIMENT, name), datasets[0]
        if not all(map(plan.is_here, datasets)):
            continue
        rules = {rule: n for update in updates.values() for rule, n in behaviour(update.get("update", "sgd")).items()}
        if files.is_made_of(path, options, model=weights, dataset=dataset, rules=rules):
            continue
        began, found = files.now(), []
        for label, update in updates.items():
            editor = Memoir(model, tokenizer, **options | update)
            found.append(measure(editor, load_records(dataset)).assign(label=label))
            born = files.provenance(began, editor=editor, dataset=dataset)
            editor.detach()
        table = pd.concat(found, ignore_index=True)
        summed = table.groupby(["label", *keys], sort=False).mean(numeric_only=True).reset_index()
        files.write_result(
            path, summed.to_dict("records"), options | {"unit": {"behaviour": rules}}, born, {"edits": table}
        )


def _minds(editor: Memoir, records: list[EditRecord]) -> pd.DataFrame:
    some = minds.of_one_kind(records, minds.QUESTIONS)
    others = [record for record in records if record.relation != some[0].relation][: minds.OTHERS]
    return minds.measure(editor, some, others)


def _lengths(editor: Memoir, _records: list[EditRecord]) -> pd.DataFrame:
    return lengths.measure(editor)


def _hops(editor: Memoir, records: list[EditRecord]) -> pd.DataFrame:
    return hops.measure(editor, hops.cases(records))


def _many(editor: Memoir, records: list[EditRecord]) -> pd.DataFrame:
    others = ([record.prompt for record in load_records(name)] for name in ("natural-questions", "openfacts-locality"))
    return many.measure(editor, records, *others)


Measure = Callable[[Memoir, list[EditRecord]], pd.DataFrame]
# by the name of the result: its data sets, what measures it, what its rows are summed up by, under which updates
MEASURED: dict[str, tuple[tuple[str, ...], Measure, list[str], dict[str, dict]]] = {
    "minds": (("openfacts",), _minds, ["scenario"], UPDATES),
    "lengths": (("openfacts",), _lengths, ["kind", "group"], UPDATES),
    "hops": (("mquake",), _hops, [], UPDATES),
    # nothing is written
    "many": (("openfacts", "natural-questions"), _many, ["n", "threshold", "kind"], {"as in the paper": {}}),
}


def kept(name: str) -> pd.DataFrame:
    """What `run` measured, one of `MEASURED`, summed up; without rows before it has run."""
    found = files.read_result("full", EXPERIMENT, name)
    return pd.DataFrame(found["metrics"] if found else [])
