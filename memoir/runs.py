"""Runs: a stream of edits, evaluated at chosen lengths, that ends in one result file with its provenance.

While it runs, its state lies in runs/<profile>/ (not kept in git); a run that is started again goes on from there.
Only a finished run writes data/results/<profile>/<experiment>/<run>.json, with tables beside it. Figures and tables are
made from these files only.
"""

import hashlib
import json
import os
import platform
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from memoir import metrics, records
from memoir.interface import EditedModel

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"
WORK = ROOT / "runs"
# what runs write themselves does not make the code that they ran dirty
OUTPUTS = (":!figures", ":!data/results")
PACKAGES = ("torch", "transformers", "numpy", "scipy", "pandas", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Stream:
    """What is run: records of `dataset` edited in order, and evaluated on all so far after each of `at` edits."""

    profile: str
    experiment: str
    run: str
    dataset: str
    at: tuple[int, ...]
    every: int = 50
    generated: bool = True

    def __post_init__(self):
        if not self.at or list(self.at) != sorted(set(self.at)) or self.at[0] < 1 or self.every < 1:
            raise ValueError(f"at = {self.at} must be growing numbers of edits and every = {self.every} at least 1.")


def run_stream(stream: Stream, editor: EditedModel) -> Path:
    """Run a stream with a fresh editor, or go on with it; returns the path of its result file, at once when it is done.

    ValueError when a result or a checkpoint of this name was made with other settings.
    """
    result = result_path(stream.profile, stream.experiment, stream.run)
    settings = json.loads(json.dumps({"stream": asdict(stream), "method": editor.method, "editor": editor._settings()}))
    if result.exists():
        if json.loads(result.read_text())["parameters"] != settings:
            raise ValueError(f"{result} was made with other settings. Give this run another name, or delete the file.")
        return result
    work = WORK / stream.profile / stream.experiment / stream.run
    work.mkdir(parents=True, exist_ok=True)
    began = _began(work)
    facts = records.load_records(stream.dataset, stream.at[-1], tokenizer=editor.tokenizer)
    if len(facts) < stream.at[-1]:
        raise ValueError(f"{stream.dataset} has {len(facts)} valid records; this run asks for {stream.at[-1]}.")
    tables = [_evaluated_at(n, facts, stream, editor, work) for n in stream.at]
    table = pd.concat(tables, ignore_index=True)
    found = [metrics.summary(group).assign(n_edits=n) for n, group in table.groupby("n_edits")]
    summary = pd.concat(found, ignore_index=True)
    born = provenance(began, editor=editor, dataset=stream.dataset)
    born["edit_seconds"] = round(sum(edit["seconds"] for edit in editor.log), 1)
    write_result(
        result, summary.to_dict("records"), settings, born, {"values": table, "edits": pd.DataFrame(editor.log)}
    )
    return result


def result_path(profile: str, experiment: str, run: str) -> Path:
    """Where a finished run's metrics and provenance are; its tables lie beside it."""
    return RESULTS / profile / experiment / f"{run}.json"


def read_result(profile: str, experiment: str, run: str) -> dict | None:
    """A finished run's file, or None when it was not run."""
    path = result_path(profile, experiment, run)
    return json.loads(path.read_text()) if path.exists() else None


def write_result(
    path: Path, found: list[dict] | dict, parameters: dict, born: dict, tables: dict[str, pd.DataFrame] | None = None
) -> None:
    """Write tables as <run>-<name>.parquet and then, last, the result file itself: it is there only when all is.

    found: the metrics, fit for JSON; born: what `provenance` gave.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, table in (tables or {}).items():
        table.to_parquet(path.with_name(f"{path.stem}-{name}.parquet"), compression="zstd", index=False)
    content = {"run": path.stem, "metrics": found, "parameters": parameters, "provenance": born}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    os.replace(draft, path)


def provenance(began: str, *, editor: EditedModel | None = None, dataset: str | None = None) -> dict:
    """Where a result comes from: code, model, data, versions, device, times (UTC), peak memory of this process in MiB.

    `began` is what `now` said at the start; a run without a model or without a data set has none in its provenance.
    """
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *OUTPUTS)
    born = {
        "commit": _git("rev-parse", "HEAD") or os.environ.get("MEMOIR_COMMIT") or None,  # an image knows its own
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
    for file in records.DATASETS[dataset].files:
        digest.update((file if isinstance(file, Path) else records.fetch(file)).read_bytes())
    return digest.hexdigest()


def _evaluated_at(
    n: int, facts: Sequence[records.EditRecord], stream: Stream, editor: EditedModel, work: Path
) -> pd.DataFrame:
    """Edit up to n and evaluate on all n, or read what an earlier start of this run found there."""
    kept = work / f"at-{n}.parquet"
    if not kept.exists() or n == stream.at[-1]:
        editor.edit_all(facts[len(editor.edits) : n], checkpoint=work / "checkpoint", every=stream.every)
    if not kept.exists():
        table = metrics.evaluate(editor, facts[:n], generated=stream.generated).assign(n_edits=n)
        table.to_parquet(kept.with_suffix(".draft"), index=False)
        os.replace(kept.with_suffix(".draft"), kept)
    return pd.read_parquet(kept)


def _began(work: Path) -> str:
    """When this run was first started, as noted in its folder."""
    note = work / "began"
    if not note.exists():
        note.write_text(now())
    return note.read_text()


def _git(*arguments: str) -> str | None:
    """What git says, or None where there is no git or no repository: unknown is not a guess."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
