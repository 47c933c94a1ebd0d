"""The same small search for every method: which settings do best on calibration records, none of them a test record.

Each candidate of a method's grid edits the same records one after the other and is scored on all of them at the end.
Finished candidates are kept in runs/ and are not done again; the table of all is one result file.
"""

import json
import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import metrics, runs
from memoir.baselines import GRIDS, METHODS
from memoir.interface import EditedModel
from memoir.models import weights_hash
from memoir.records import EditRecord, load_records

EXPERIMENT, RUN = "baselines", "search"
# the 60 records of ZsRE's edit file on which MEMOIR's own settings were chosen too
ZSRE = slice(500, 560)


def calibration_records(n: int) -> list[EditRecord]:
    """n records: half from OpenFacts' calibration split, half from records 500-559 of ZsRE, or all from OpenFacts."""
    facts = load_records("openfacts-calibration")
    try:
        zsre = load_records("zsre", ZSRE.stop)[ZSRE]
    except FileNotFoundError:
        return facts[:n]
    return [*zsre[: n // 2], *facts[: n - n // 2]]


def candidates(name: str) -> list[dict]:
    """What is tried for a method: the settings that the search starts from, and each change of its grid to them."""
    return [METHODS[name].settings | change for change in ({}, *GRIDS.get(name, ()))]


def search(
    profile: str, names: Sequence[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n_edits: int = 16
) -> pd.DataFrame:
    """Try each candidate of each method on the same n_edits records; write and return the table of all tried so far.

    Columns: method, settings (JSON), the teacher-forced metrics, average (of reliability, generalization and locality),
    seconds (per edit), failed (a sentence, or None). A candidate that fails numerically is a row with average 0. What
    the result file or an interrupted search has already is not done again.
    """
    began, path = runs.now(), runs.result_path(profile, EXPERIMENT, RUN)
    parameters = {"n_edits": n_edits, "records": "zsre 500-559 and openfacts-calibration, the first of each"}
    result = runs.read_result(profile, EXPERIMENT, RUN)
    rows = result["metrics"] if result and result["parameters"] == parameters else []
    records, kept = calibration_records(n_edits), runs.WORK / profile / EXPERIMENT / f"{RUN}-{n_edits}.json"
    if kept.exists():
        rows = json.loads(kept.read_text())
    done, born = {(row["method"], row["settings"]) for row in rows}, None
    for name in names:
        for settings in candidates(name):
            if (name, json.dumps(settings)) in done:
                continue
            row = {"method": name, "settings": json.dumps(settings)}
            rows.append(row | _tried(METHODS[name].maker, settings, model, tokenizer, records))
            born = runs.provenance(began) | {"model_sha256": weights_hash(model)}
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.with_suffix(".draft").write_text(json.dumps(rows))
            os.replace(kept.with_suffix(".draft"), kept)
    rows.sort(key=lambda row: list(METHODS).index(row["method"]))  # candidates stay in the order of the grid
    if born:
        runs.write_result(path, rows, parameters, born)
    return pd.DataFrame(rows)


def _tried(
    maker: type[EditedModel],
    settings: dict,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: list[EditRecord],
) -> dict:
    editor = None
    try:
        editor = maker(model, tokenizer, **settings)
        editor.edit_all(records)
        table = metrics.evaluate(editor, records, generated=False)
    except FloatingPointError as error:
        return {"average": 0.0, "failed": f"after {len(editor.edits) if editor else 0} edits: {error}"}
    finally:
        if editor is not None:
            editor.detach()
    found = metrics.summary(table).set_index("metric")["mean"]
    parts = {metric: round(float(found[metric]), 4) for metric in found.index}
    average = round(float(np.mean([parts[m] for m in ("reliability", "generalization", "locality")])), 4)
    seconds = round(float(np.mean([edit["seconds"] for edit in editor.log])), 3)
    return parts | {"average": average, "seconds": seconds, "failed": None}
