"""All methods side by side: single edits, streams, and cost; each a finished result file, a failure among them.

The queue goes on where it was stopped, and a method that fails numerically becomes a result that says so.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import runs
from memoir.baselines import METHODS
from memoir.baselines.keys import SubjectEditor
from memoir.interface import EditedModel
from memoir.records import EditRecord, load_records

EXPERIMENT = "baselines"


def run_one(
    stream: runs.Stream,
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    singles: bool = False,
    **settings,
) -> None:
    """`runs.run_stream`, or `runs.run_singles`, for a method of the registry; settings go before the registered ones.

    A numerical failure ends in a result file too: with `failed`, the number of edits before it and the sentence, and
    the metrics of the lengths that were reached.
    """
    if runs.result_path(stream.profile, stream.experiment, stream.run).exists():
        return
    editor = None
    try:
        editor = METHODS[name](model, tokenizer, **settings)
        if isinstance(editor, SubjectEditor):
            editor.know(load_records(stream.dataset, stream.at[-1]))
        (runs.run_singles if singles else runs.run_stream)(stream, editor)
    except FloatingPointError as error:
        _write_failure(stream, name, settings, editor, str(error))
    finally:
        if editor is not None:
            editor.detach()


def _write_failure(stream: runs.Stream, name: str, settings: dict, editor: EditedModel | None, sentence: str) -> None:
    """The lengths that were reached, and why no further. editor: None when the method could not even be set up."""
    work = runs.WORK / stream.profile / stream.experiment / stream.run
    tables = [pd.read_parquet(path) for n in stream.at for path in sorted(work.glob(f"at-{n}-questions-*.parquet"))]
    table = pd.concat(tables, ignore_index=True) if tables else None
    how = runs.parameters(stream, editor) if editor else {"stream": asdict(stream), "method": name, "editor": settings}
    how |= {"failed": {"n_edits": len(editor.edits) if editor else 0, "sentence": sentence}}
    born = runs.provenance(runs.now(), editor=editor, dataset=stream.dataset)
    found = {} if table is None else {"questions": table}
    found |= {"edits": editor.edits_table()} if editor and editor.log else {}
    rows = [] if table is None else runs.summary_at(table)
    result = runs.result_path(stream.profile, stream.experiment, stream.run)
    runs.write_result(result, rows, json.loads(json.dumps(how)), born, found)


def run_queue(
    profile: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    methods: dict[str, dict],
    datasets: Sequence[str],
    singles: int,
    lengths: Sequence[int],
    longer: Sequence[int] = (),
    long_methods: Sequence[str] = (),
    every: int = 25,
) -> list[str]:
    """Everything that is not finished: singles, streams to the last of `lengths`, and further for the cheap methods.

    methods: name -> settings that go before the registered ones; long_methods: those that run the lengths `longer` too,
    on the first data set. Short runs of all methods come before long ones. A data set that is not to be had here is
    left out and named in what is returned.
    """
    missing = []
    for dataset in datasets:
        try:
            load_records(dataset, 1)
        except FileNotFoundError:
            missing.append(dataset)
    here = [dataset for dataset in datasets if dataset not in missing]
    for dataset in here:
        for name, settings in methods.items():
            one = runs.Stream(profile, EXPERIMENT, f"{dataset}-{name}-singles", dataset, (singles,))
            run_one(one, name, model, tokenizer, singles=True, **settings)
    for dataset in here:
        for name, settings in methods.items():
            stream = runs.Stream(profile, EXPERIMENT, f"{dataset}-{name}", dataset, tuple(lengths), every=every)
            run_one(stream, name, model, tokenizer, **settings)
    for dataset in here[:1] if longer else []:
        for name in long_methods:
            stream = runs.Stream(profile, EXPERIMENT, f"{dataset}-{name}-long", dataset, tuple(longer), every=every)
            run_one(stream, name, model, tokenizer, **methods[name])
    return missing


def results(profile: str, datasets: Iterable[str]) -> pd.DataFrame:
    """A row per data set, method, length, metric and protocol that is finished; column failed (a sentence or None)."""
    rows = []
    for dataset in datasets:
        for name in METHODS:
            for kind in ("-singles", "", "-long"):
                found = runs.read_result(profile, EXPERIMENT, f"{dataset}-{name}{kind}")
                if found is None:
                    continue
                how = {"dataset": dataset, "method": name, "failed": None}
                rows += [how | row for row in found["metrics"]]
                if "failed" in found["parameters"]:
                    failure = found["parameters"]["failed"]
                    rows.append(how | {"n_edits": failure["n_edits"], "failed": failure["sentence"]})
    columns = ["dataset", "method", "n_edits", "metric", "protocol", "mean", "low", "high", "n", "failed"]
    return pd.DataFrame(rows, columns=columns)


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
