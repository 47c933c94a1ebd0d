"""Result files: where they lie, how they are written, and the provenance that each carries.

A result is data/results/<profile>/<experiment>/<run>.json with tables beside it, written whole or not at all. Figures
and tables are made from these files only.
"""

import hashlib
import json
import os
import platform
import resource
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from memoir.edited import EditedModel
from memoir.facts import reading, registry
from memoir.store import atomic

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "data" / "results"
WORK = ROOT / "runs"
# what runs write themselves does not make the code that they ran dirty
OUTPUTS = (":!figures", ":!data/results", ":!README.md")
PACKAGES = ("torch", "transformers", "numpy", "scipy", "pandas", "tokenizers", "safetensors")


def result_path(profile: str, experiment: str, run: str) -> Path:
    """Where a finished run's metrics and provenance are; its tables lie beside it."""
    return RESULTS / profile / experiment / f"{run}.json"


def table_path(result: Path, name: str) -> Path:
    """Where a table of this name lies beside a result file."""
    return result.with_name(f"{result.stem}-{name}.parquet")


def read_result(profile: str, experiment: str, run: str) -> dict | None:
    """A finished run's file, or None when it was not run."""
    path = result_path(profile, experiment, run)
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def write_result(
    path: Path, found: list[dict] | dict, parameters: dict, born: dict, tables: dict[str, pd.DataFrame] | None = None
) -> None:
    """Write tables as <run>-<name>.parquet and then, last, the result file itself: it is there only when all is.

    Each is written beside its place first: killed at any moment, no file is there by half.

    found: the metrics, fit for JSON; born: what `provenance` gave.
    """
    named = {table_path(path, name): table for name, table in (tables or {}).items()}
    content = {"run": path.stem, "metrics": found, "parameters": parameters, "provenance": born}
    with ExitStack() as drafts:  # all are written before the first takes its place; they do so from the last one on
        draft = drafts.enter_context(atomic.replacing(path))
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        for place, table in named.items():
            table.to_parquet(drafts.enter_context(atomic.replacing(place)), compression="zstd", index=False)


def is_made_of(
    path: Path, parameters: dict, *, model: str | None = None, dataset: str | None = None, rules: dict | None = None
) -> bool:
    """Whether the result of a single experiment is there and was made of just this: then it need not be made again.

    parameters: those that it is made with, among whatever else its file tells; model: the hash of the weights; rules:
    the behaviour numbers of the editor that it was measured on.
    """
    if not path.exists():
        return False
    content = json.loads(path.read_text("utf-8"))
    then, born = content["parameters"], content["provenance"]
    same = json.loads(json.dumps(parameters)).items() <= then.items()
    same &= rules is None or then.get("unit", {}).get("behaviour") == rules
    same &= dataset is None or born.get("data_sha256") == data_hash(dataset)
    return same and (model is None or born.get("model_sha256") == model)


def write_whole(path: Path, content: object) -> None:
    """Write what JSON can hold, whole or not at all, also where several processes write it."""
    with atomic.replacing(path) as draft:
        draft.write_text(json.dumps(content), "utf-8")


def provenance(began: str, *, editor: EditedModel | None = None, dataset: str | None = None) -> dict:
    """Where a result comes from: code, model, data, versions, device, times (UTC), peak memory of this process in MiB.

    `began` is what `now` said at the start; a run without a model or without a data set has none in its provenance.
    """
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *OUTPUTS)
    born = {
        "commit": commit(),
        "dirty": None if changed is None else bool(changed),
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "began": began,
        "ended": now(),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if editor is not None:
        weight = next(editor.model.parameters())
        born |= {
            "model": editor.model.config.name_or_path.rpartition("/")[2],
            "model_sha256": editor.base_hash,
            "model_revision": getattr(editor.model.config, "_commit_hash", None),  # of the hub; else unknown
            "device": str(weight.device),
            "dtype": str(weight.dtype).removeprefix("torch."),
        }
    return born | ({"dataset": dataset, "data_sha256": data_hash(dataset)} if dataset else {})


def now() -> str:
    """The present time, UTC, as written into results."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def data_hash(dataset: str) -> str:
    """SHA-256 over the files of a data set, in their order."""
    digest = hashlib.sha256()
    for file in registry.DATASETS[dataset].files:
        digest.update((file if isinstance(file, Path) else reading.fetch(file)).read_bytes())
    return digest.hexdigest()


def commit() -> str | None:
    """The commit of the code that runs, or None where that is unknown."""
    return _git("rev-parse", "HEAD") or os.environ.get("MEMOIR_COMMIT") or None  # an image knows its own


def _git(*arguments: str) -> str | None:
    """What git says, or None where there is no git or no repository: unknown is not a guess."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
