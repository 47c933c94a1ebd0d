"""All methods side by side, from the finished streams of the plan; and what each costs, measured in one process.

The streams are run by `plan.run`: experiment `baselines`, with the settings that `baselines-search` found.
"""

import json
import time

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.baselines import METHODS
from memoir.evidence import plan, runs
from memoir.experiments.lasting import frames as lasting
from memoir.facts.reading import EditRecord, load_records
from memoir.interface import EditedModel
from memoir.metrics import TEACHER_FORCED

EXPERIMENT, SEARCH = "baselines", "baselines-search"
PARTS = ["reliability", "generalization", "locality"]


def results(profile: str) -> pd.DataFrame:
    """A row per data set, method, length, metric and protocol that is finished; column failed (a sentence or None)."""
    rows = []
    for planned in plan.planned(profile, f"{EXPERIMENT}/").values():
        found = runs.read_result(profile, EXPERIMENT, planned.stream.run)
        if found is None:
            continue
        how = {"dataset": planned.stream.dataset, "method": planned.method, "failed": None}
        rows += [how | row for row in found["metrics"]]
        if failure := found["parameters"].get("failed"):
            rows.append(how | {"n_edits": failure["n_edits"], "failed": failure["sentence"]})
    columns = ["dataset", "method", "n_edits", "metric", "protocol", "mean", "low", "high", "n", "failed"]
    return pd.DataFrame(rows, columns=columns)


def searched(profile: str) -> pd.DataFrame:
    """The search: a row for each candidate that is finished, in the order of the plan.

    Columns method, changed (from the registered settings), the teacher-forced metrics, average, s/edit, chosen, failed.
    """
    rows = []
    for planned in plan.planned(profile, f"{SEARCH}/").values():
        found = runs.read_result(profile, SEARCH, planned.stream.run)
        if found is None:
            continue
        changed = ", ".join(f"{name} = {value}" for name, value in planned.editor.items()) or "nothing"
        row = {"method": METHODS[planned.method].title, "changed": changed, "average": plan.average(found)}
        row |= {m["metric"]: m["mean"] for m in found["metrics"] if m["protocol"] == TEACHER_FORCED}
        if failure := found["parameters"].get("failed"):
            row["failed"] = f"after {failure['n_edits']} edits"
        else:
            row["s/edit"] = found["provenance"]["edit_seconds"] / planned.stream.at[-1]
        rows.append(row)
    columns = [
        "method",
        "changed",
        "reliability",
        "generalization",
        "locality",
        "average",
        "s/edit",
        "chosen",
        "failed",
    ]
    table = pd.DataFrame(rows, columns=columns)
    best = table.groupby("method", sort=False).average.idxmax()
    return table.assign(chosen=table.index.isin(best))


def endings(profile: str) -> pd.DataFrame:
    """How the training of single edits ends: columns dataset, method, steps, at the bound, last loss.

    Means over the edits: of steps, of whether the bound on steps (n_iter) ended them, of the last loss in nats.
    """
    rows = []
    for planned, result, tables in lasting.finished(profile, EXPERIMENT):
        if planned.singles:
            edits, most = tables["edits"], result["parameters"]["editor"].get("n_iter")
            row = {"dataset": planned.stream.dataset, "method": METHODS[planned.method].title}
            row |= {"steps": edits.steps.mean(), "last loss": edits.last_loss.mean()}
            if most:  # what stores a sentence takes no steps
                row["at the bound"] = (edits.steps >= most).mean()
            rows.append(row)
    return pd.DataFrame(rows, columns=["dataset", "method", "steps", "at the bound", "last loss"])


def not_run(profile: str, experiment: str) -> list[str]:
    """Names of the experiment's streams that have not ended."""
    planned = plan.planned(profile, f"{experiment}/")
    return [name for name, one in planned.items() if not one.result.exists()]


def run_costs(
    profile: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    methods: dict[str, dict],
    n: int,
    rounds: int,
) -> pd.DataFrame:
    """Seconds per edit and per query, memory and trained numbers: measured in one process, one result file.

    Each round makes every method anew, in turns, and gives it the same n calibration records: what slows the machine
    down for a while slows all of them down. A query is one record's prompt, answered by 4 generated tokens. Ratios are
    to MEMOIR in the same round; spread is the least and the largest over the rounds.
    """
    path = runs.result_path(profile, EXPERIMENT, "costs")
    asked = json.loads(json.dumps({"methods": methods, "edits": n, "rounds": rounds}))
    if path.exists() and json.loads(path.read_text())["parameters"] == asked:
        return pd.DataFrame(json.loads(path.read_text())["metrics"])
    began, records, rows = runs.now(), load_records("openfacts-calibration", n), []
    born = {}
    for round_ in range(rounds):
        for name, settings in methods.items():
            editor = METHODS[name](model, tokenizer, **settings)
            try:
                rows.append({"method": name, "round": round_} | _cost(editor, records))
                born = runs.provenance(began, editor=editor, dataset="openfacts-calibration")
            except FloatingPointError:  # has a row among the results; it has no cost
                continue
            finally:
                editor.detach()
    table = _ratios(pd.DataFrame(rows))
    runs.write_result(path, table.to_dict("records"), asked, born, {"rounds": pd.DataFrame(rows)})
    return table


def _cost(editor: EditedModel, records: list[EditRecord]) -> dict:
    seconds = [result.seconds for result in editor.edit_all(records)]
    prompts = [record.prompt for record in records]
    editor.generate(prompts[:1], 4)
    start = time.perf_counter()
    for prompt in prompts:
        editor.generate([prompt], 4, min_new_tokens=4)
    query = (time.perf_counter() - start) / len(prompts)
    if hasattr(editor, "memory"):  # MEMOIR: W_m, the mask of each edit, μ and π; the columns of one mask are trained
        tensors = [*editor.memory.state_dict().values()]
        extra = sum(t.numel() * t.element_size() for t in tensors) + editor.memory.masks.nbytes
        return dict(edit=float(np.mean(seconds)), query=query, extra_bytes=extra,
                    trained=editor.settings.k * editor.memory.weight.shape[0])  # fmt: skip
    return dict(edit=float(np.mean(seconds)), query=query, extra_bytes=editor.extra_bytes(), trained=editor.trained)


def _ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Per method: mean seconds, and the ratios to MEMOIR in the same round with their spread."""
    found = []
    reference = rows[rows.method == "memoir"].set_index("round")
    for name, group in rows.groupby("method", sort=False):
        row = {"method": name, "extra_bytes": int(group.extra_bytes.iloc[0]), "trained": int(group.trained.iloc[0])}
        for what in ("edit", "query"):
            row[f"{what}_seconds"] = float(group[what].mean())
            if len(reference):
                ratio = group.set_index("round")[what] / reference[what]
                row |= {f"{what}_ratio": float(ratio.mean()), f"{what}_least": float(ratio.min())}
                row[f"{what}_most"] = float(ratio.max())
        found.append(row)
    return pd.DataFrame(found)
