"""What tests ask again and again is found once: records of files, hashes of the tokenizer and of large weights.

Each is remembered by what it is made of, so that an altered file, tokenizer or model is read and hashed anew.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from memoir.checks import host
from memoir.facts import reading
from memoir.models import identity

LARGE = 10**7  # parameters: below that a hash takes no longer than its key


def records(read: Callable) -> Callable:
    """`reading.read_records` by the data set's entry, its files with their times, the number, tokenizer and limit."""
    kept = {}

    def again(name, n=None, *, tokenizer=None, limit=1024):
        dataset = reading.DATASETS.get(name)
        if dataset is None:
            return read(name, n, tokenizer=tokenizer, limit=limit)
        paths = [file if isinstance(file, Path) else reading.fetch(file) for file in dataset.files]
        key = (name, n, dataset, tokenizer and tokenizer_key(tokenizer), limit, *map(stamp, paths))
        if key not in kept:
            kept[key] = read(name, n, tokenizer=tokenizer, limit=limit)
        return tuple(map(list, kept[key]))

    return again


def tables(read: Callable) -> Callable:
    """`results.table` by the file that is meant, of whatever name: a link to it too, or one that was moved and back."""
    kept = {}

    def again(path):
        about = path.stat()
        key = about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size
        if key not in kept:
            kept[key] = read(path)
        return kept[key].copy()

    return again


def stamp(path: Path) -> tuple:
    return path, path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino, path.stat().st_ctime_ns


def tokenizer_key(tokenizer) -> tuple:
    """A tokenizer, its size, and what it makes of a text."""
    return tokenizer, len(tokenizer), tuple(tokenizer("The café’s 2 rivers,\nand 東京. ").input_ids)


def of_tokenizer(make: Callable) -> Callable:
    kept = {}

    def again(tokenizer):
        key = tokenizer_key(tokenizer)
        if key not in kept:
            kept[key] = make(tokenizer)
        return kept[key]

    return again


def of_weights(make: Callable) -> Callable:
    """`identity.weights_hash` of a large float32 model by its weights' names, shapes and sums of bits."""
    kept = {}

    def again(model):
        weights = host.weights(model)
        if sum(w.numel() for _, w in weights) < LARGE or any(w.dtype != torch.float32 for _, w in weights):
            return make(model)
        bits = (w.detach().contiguous().view(torch.int32) for _, w in weights)
        sums = tuple(int((b.view(torch.int64) if b.shape[-1] % 2 == 0 else b).sum()) for b in bits)
        key = (sums, *((name, w.shape) for name, w in weights))
        if key not in kept:
            kept[key] = make(model)
        return kept[key]

    return again


def remember(patch: pytest.MonkeyPatch) -> None:
    """From here on, wherever memoir's modules hold these functions by their names."""
    hashes = (identity.tokenizer_hash, of_tokenizer), (identity.weights_hash, of_weights)
    for real, wrap in ((reading.read_records, records), *hashes):
        again = wrap(real)
        for module in [module for name, module in sys.modules.items() if name.startswith("memoir")]:
            if vars(module).get(real.__name__) is real:
                patch.setattr(module, real.__name__, again)
    with contextlib.suppress(ModuleNotFoundError):  # the laboratory may be away
        results = importlib.import_module("memoir.lab.evidence.results")
        patch.setattr(results, "table", tables(results.table))
