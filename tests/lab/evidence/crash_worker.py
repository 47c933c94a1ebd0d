"""A stream on a toy model, to be run in a process of its own and killed. Imported once by the fork server."""

import json
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import pytest
import remembered
import torch
from conftest import BACKGROUND, PREFIXES, toy_model

import memoir
from memoir import edited
from memoir.lab.evidence import files, runs
from memoir.store import folder as store

torch.set_num_threads(1)
remembered.remember(pytest.MonkeyPatch())
TOKENIZER = memoir.load_model("smollm2-135m")[1]
STREAM = runs.Stream("smoke", "toy", "crash", "openfacts", at=(4, 14), every=3, generated=2, untouched=2)
memoir.load_records("openfacts", tokenizer=TOKENIZER)


# made once, in the fork server: each process that is killed inherits it
KEEPER = memoir.Memoir(
    toy_model(), TOKENIZER, layer=1, k=24, threshold=0.5, n_iter=1, background=BACKGROUND[:1], prefixes=()
)


def work(folder: Path) -> None:
    files.RESULTS, files.WORK = folder / "results", folder / "runs"
    editor = memoir.Memoir(
        toy_model(), TOKENIZER, layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4, background=BACKGROUND, prefixes=PREFIXES
    )
    runs.run_stream(STREAM, editor)


def nothing() -> None:
    """The first process of a fork server waits for the imports; this one may."""


def keep(folder: Path, kind: str, said: Connection) -> None:
    """Edit and save for ever, by `kind`; after each edit that is stored, its number goes into `said`."""
    warnings.simplefilter("ignore")  # a toy model learns little
    if kind == "result":
        for n in range(next_result(folder / "run.json"), 10**6):
            files.write_result(folder / "run.json", [{"n": n}], {}, {}, {"edits": pd.DataFrame({"n": range(n)})})
            said.send(n)
    if (folder / store.HEADER).exists():
        tensors, header = store.read(folder)
        KEEPER._restore(tensors)
        KEEPER.edits, KEEPER.log = edited._edits(header), header["log"]
    while True:
        n = len(KEEPER.edits)
        if kind == "save":
            KEEPER.edit(f"Where is item {n}?", f"shelf {n}")
            KEEPER.save(folder)
        else:
            record = memoir.EditRecord(f"{n}", "item", f"Where is item {n}?", f"shelf {n}")
            KEEPER.edit_all([record], checkpoint=folder, every=1)
        said.send(n + 1)


def next_result(path: Path) -> int:
    return json.loads(path.read_text())["metrics"][0]["n"] + 1 if path.exists() else 1
