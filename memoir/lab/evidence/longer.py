"""A stream that was made longer: what its finished, shorter run found is kept, and only what is new is asked.

Also where that run's checkpoint is gone: its edits are then made again, and its answers are those of its result file.
"""

import json
from pathlib import Path

import pandas as pd

from memoir.lab.evidence import files
from memoir.store import folder


def same(found: dict, settings: dict) -> bool:
    """Whether a result's parameters are these settings. A tokenizer that nobody noted then (None) is taken for the
    model's own."""
    then = found.get("unit", {})
    known = then if then.get("tokenizer") else then | {"tokenizer": settings.get("unit", {}).get("tokenizer")}
    return found | {"unit": known} == settings


def is_longer(earlier: dict, settings: dict) -> bool:
    """Whether a run's settings are the earlier ones but for more edits: `at` has grown at its end. In another order
    than the data set's, more records are other records from the first on."""
    if "stream" not in earlier or "stream" not in settings or settings["stream"].get("order"):
        return False
    at = earlier["stream"]["at"]
    begun = settings["stream"]["at"][: len(at)] == at and settings["stream"]["at"] != at
    return begun and same(earlier, settings | {"stream": settings["stream"] | {"at": at}})


def found_before(result: Path, settings: dict) -> tuple[dict[int, dict[str, pd.DataFrame]], list[dict]]:
    """What the result file of the shorter run holds: its tables by number of edits and name, and its starts.

    Both are empty when there is no such file, when it is of other settings, or when one of its tables is missing.
    """
    if not result.exists():
        return {}, []
    content = json.loads(result.read_text("utf-8"))
    stream = settings["stream"]
    names = ["questions", *settings.get("probes", {}), *(["untouched"] if stream["untouched"] else [])]
    paths = {name: files.table_path(result, name) for name in names}
    if not is_longer(content["parameters"], settings) or not all(path.exists() for path in paths.values()):
        return {}, []
    read = {name: pd.read_parquet(path) for name, path in paths.items()}
    lengths = content["parameters"]["stream"]["at"]
    tables = {n: {name: rows[rows.n_edits == n] for name, rows in read.items()} for n in lengths}
    born = content["provenance"]
    return tables, born.get("starts", [{"time": born["began"], "commit": born["commit"]}])


def held(checkpoint: Path) -> int:
    """How many edits a checkpoint holds; 0 when there is none."""
    path = checkpoint / folder.HEADER
    return len(json.loads(path.read_text("utf-8"))["edits"]) if path.exists() else 0
