"""What edits say where people ask: frames for notebook 13 from finished streams, beside the published WILD results.

A stream of `wild` asks its records in every way (`evidence/wild.py`); those of `wild-parts` add one part of the
recommended settings after the other. Knows results, nothing of models.
"""

import itertools
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd

from memoir import metrics
from memoir.checks.places import DATA
from memoir.lab.evidence import plan, results

PUBLISHED = DATA / "published" / "wild_results.csv"
LABELS = {"recommended": "recommended", "rls": "rls", "paper": "as in the paper"}
STREAMS = ("wild", "wild-750")  # at 107 edits, and at 750
PARTS = ("rls", "+ the question's span", "+ the answer's end", "+ chat rows, lr 16", "+ cue rows", "recommended")
PROTOCOL = ("alone", "instruction", "chat")
AGES = ("oldest third", "middle third", "newest third")
COLUMNS = ["dataset", "label", "n_edits", "form", "kind", "measure", "mean", "low", "high", "n"]


def answers(profile: str, experiments: tuple[str, ...] = STREAMS) -> pd.DataFrame:
    """What every stream says in every way of asking: `COLUMNS`, with 95 % intervals.

    experiments: `STREAMS`, or "wild-singles", where each edit was asked about alone in its memory (n_edits = 1).
    measure: "exact" and "begins" (Wilson's intervals), "teacher_forced" (`metrics.interval`), "found" (the share that
    was routed to the record's own edit; of irrelevant questions, to the base model; Wilson's).
    """
    return _answers(profile, experiments, tuple(results.stamp(profile, name) for name in experiments)).copy()


@lru_cache(maxsize=8)
def _answers(profile: str, experiments: tuple[str, ...], _stamps: tuple) -> pd.DataFrame:
    found = []
    for planned, _, tables in _finished(profile, experiments):
        found += _read(tables, dataset=planned.stream.dataset, label=_label(planned))
    return pd.DataFrame(found, columns=COLUMNS)


def parts(profile: str) -> pd.DataFrame:
    """The same for streams that add one part after the other; the last is the recommended settings' own stream."""
    found = []
    for planned, _, tables in results.finished(profile, "wild-parts"):
        found += _read(tables, dataset=planned.stream.dataset, label=PARTS[int(planned.stream.run.rpartition("-")[2])])
    whole = answers(profile)
    if found:
        sets, longest = {row["dataset"] for row in found}, max(row["n_edits"] for row in found)
        last = whole[(whole.label == "recommended") & whole.dataset.isin(sets) & (whole.n_edits == longest)]
        found += last.assign(label=PARTS[-1]).to_dict("records")
    return pd.DataFrame(found, columns=COLUMNS)


def by_age(profile: str) -> pd.DataFrame:
    """How often edited prompts are said, exactly, by when they were edited: what later edits take away.

    Columns dataset, label, n_edits, form, and AGES: the mean over the first, middle and last third of the asked edits.
    """
    rows = []
    for planned, _, tables in _finished(profile, STREAMS):
        asked = tables.get("wild", tables.get("wild-protocol"))
        asked = asked[(asked.kind == "prompt") & (asked.n_edits == asked.n_edits.max())]
        for form, here in asked.groupby("form", sort=False):
            thirds = np.array_split(here.exact.to_numpy(float), len(AGES))  # rows stand in the order of the edits
            about = {"dataset": planned.stream.dataset, "label": _label(planned), "n_edits": here.n_edits.iloc[0]}
            rows.append(about | {"form": form} | {age: some.mean() for age, some in zip(AGES, thirds, strict=True)})
    return pd.DataFrame(rows, columns=["dataset", "label", "n_edits", "form", *AGES])


def unlearnt(profile: str) -> pd.DataFrame:
    """Edits that did not reach their stopping loss: columns dataset, label, n_edits, share."""
    rows = []
    for planned, result, tables in _finished(profile, STREAMS):
        share = (tables["edits"].last_loss > result["parameters"]["editor"]["stop_loss"]).mean()
        about = {"dataset": planned.stream.dataset, "label": _label(planned), "n_edits": len(tables["edits"])}
        rows.append(about | {"share": share})
    return pd.DataFrame(rows, columns=["dataset", "label", "n_edits", "share"])


def beside_published(profile: str) -> pd.DataFrame:
    """Ours and the published methods', synthetic (teacher-forced) against WILD (generated to its natural end).

    Columns dataset, model, method, n_edits (1: single edits, as all published ones are), metric, protocol ("synthetic",
    "wild"), value. WILD asks in the chat template here, as chat models are asked there; published answers were judged
    by a model, ours by exact match.
    """
    published = pd.read_csv(PUBLISHED, comment="#").assign(n_edits=1)
    ours = answers(profile, ("wild-singles", *STREAMS))
    ours = ours[(ours.form == "chat") & ours.kind.isin(["prompt", "rephrasing"])]
    protocols = {"teacher_forced": "synthetic", "exact": "wild"}
    ours = ours[ours.measure.isin(protocols)].assign(
        protocol=lambda rows: rows.measure.map(protocols),
        metric=lambda rows: rows.kind.map({"prompt": "reliability", "rephrasing": "generalization"}),
        model="smollm2-135m",
        method=lambda rows: "MEMOIR, " + rows.label,
    )
    columns = ["dataset", "model", "method", "n_edits", "metric", "protocol", "value"]
    return pd.concat([published[columns], ours.rename(columns={"mean": "value"})[columns]], ignore_index=True)


def _finished(profile: str, experiments: tuple[str, ...]) -> Iterator[tuple[plan.Planned, dict, dict]]:
    return itertools.chain.from_iterable(results.finished(profile, name) for name in experiments)


def _label(planned: plan.Planned) -> str:
    return LABELS[planned.stream.run.removeprefix(f"{planned.stream.dataset}-")]


def _read(tables: dict[str, pd.DataFrame], **about) -> Iterator[dict]:
    table = tables.get("wild", tables.get("wild-protocol"))
    for (n, form, kind), rows in table.groupby(["n_edits", "form", "kind"], sort=False):
        here = about | {"n_edits": n, "form": form, "kind": kind}
        own = "base model" if kind == "irrelevant" else "own edit"
        shares = {"exact": rows.exact, "begins": rows.begins, "found": (rows.route == own)[rows.route.notna()]}
        for measure, values in shares.items():
            if len(values):
                yield here | {"measure": measure} | metrics.share(values)
        forced = rows.teacher_forced.dropna()
        if len(forced):
            yield here | {"measure": "teacher_forced"} | metrics.interval(forced)
