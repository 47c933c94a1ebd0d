"""A stream on a toy model, to be run in a process of its own and killed. Imported once by the fork server."""

from pathlib import Path

import torch
from conftest import BACKGROUND, PREFIXES, toy_model

import memoir
from memoir.evidence import files, runs

torch.set_num_threads(1)
TOKENIZER = memoir.load_model("smollm2-135m")[1]
STREAM = runs.Stream("smoke", "toy", "crash", "openfacts", at=(8, 30), every=3, generated=2, untouched=2)


def work(folder: Path) -> None:
    files.RESULTS, files.WORK = folder / "results", folder / "runs"
    editor = memoir.Memoir(
        toy_model(), TOKENIZER, layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4, background=BACKGROUND, prefixes=PREFIXES
    )
    runs.run_stream(STREAM, editor)


def nothing() -> None:
    """The first process of a fork server waits for the imports; this one may."""
