"""What each method costs: measured side by side in one process, as ratios to MEMOIR."""

import json
import time
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.baselines import METHODS
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.lab.evidence import files
from memoir.lab.experiments.comparison.frames import EXPERIMENT
from memoir.models import identity


def ratios(costs: pd.DataFrame) -> pd.DataFrame:
    """Cost as ratios to MEMOIR in the same round: a row per method, mean, least and most over the rounds."""
    names = [f"{what}{part}" for what in ("edit", "query") for part in ("_ratio", "_least", "_most")]
    table = costs.reindex(columns=["method", *names])  # without MEMOIR there is nothing to divide by
    table["method"] = [METHODS[name].title for name in costs.method]
    return table.rename(columns=lambda name: name.removesuffix("_ratio").replace("_", ", "))


def run_costs(
    profile: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    methods: dict[str, dict],
    n: int,
    rounds: int,
    run: str = "costs",
) -> pd.DataFrame:
    """Seconds per edit and per query, memory and trained numbers: measured in one process, one result file.

    Each round makes every method anew, in turns, and gives it the same n calibration records: what slows the machine
    down for a while slows all of them down. A query is one record's prompt, answered by 4 generated tokens. Ratios are
    to MEMOIR in the same round; spread is the least and the largest over the rounds. A method's name may have a word
    behind it, which tells two settings of it apart.
    """
    path = files.result_path(profile, EXPERIMENT, run)
    asked = json.loads(json.dumps({"methods": methods, "edits": n, "rounds": rounds}))
    if files.is_made_of(path, asked, model=identity.weights_hash(model), dataset="openfacts-calibration"):
        return pd.DataFrame(json.loads(path.read_text("utf-8"))["metrics"])
    began, records, rows = files.now(), load_records("openfacts-calibration", n), []
    born = {}
    for round_ in range(rounds):
        for name, settings in methods.items():
            editor = METHODS[name.partition(" ")[0]](model, tokenizer, **settings)
            try:
                rows.append({"method": name, "round": round_} | _cost(editor, records))
                born = files.provenance(began, editor=editor, dataset="openfacts-calibration")
            except FloatingPointError:  # has a row among the results; it has no cost
                continue
            finally:
                editor.detach()
    table = _ratios(pd.DataFrame(rows))
    files.write_result(path, table.to_dict("records"), asked, born, {"rounds": pd.DataFrame(rows)})
    return table


def _cost(editor: Any, records: list[EditRecord]) -> dict:
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
                    trained=editor.config.k * editor.memory.weight.shape[0])  # fmt: skip
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
