"""What every editing method offers: edit, edit_all, score, generate, save, load, detach; asked in the same way.

A method says how it edits and what its state is; sequential editing, checkpoints and saving stand here once, asking in
`asking.py`, so that MEMOIR and what it is compared with differ in nothing else.
"""

import sys
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
import transformers
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import store
from memoir.asking import Asked, Edit
from memoir.facts.record import EditRecord
from memoir.models.loading import weights_hash

T = TypeVar("T")
LINES = 300.0  # seconds between lines in a log


@dataclass(frozen=True)
class EditResult:
    """What one edit did: its index, the optimiser's steps, the loss before each, seconds, and its mask (D,) bool."""

    index: int
    steps: int
    losses: list[float]
    seconds: float
    mask: Tensor | None = None


class EditedModel(Asked):
    """A model under an editing method. `edits` lists what was stored; `base_hash` names the model as it was found."""

    method: str

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        super().__init__(model, tokenizer)
        self.base_hash = weights_hash(model)
        self.log: list[dict] = []  # a row per edit: steps, first_loss, last_loss, seconds
        self.subjects: dict[str, str] = {}  # of the prompts that `know` was told of

    @abstractmethod
    def _edit(self, prompt: str, target: str) -> tuple[list[float], int, Tensor | None]:
        """Make `prompt` answer `target`: losses, number of steps, mask. What raises has changed nothing."""

    @abstractmethod
    def detach(self) -> None:
        """Leave the model as it was found, bit for bit."""

    @abstractmethod
    def _settings(self) -> dict:
        """Everything but the edits that decides what the state becomes, fit for JSON."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """The state that edits change, and whatever is needed to go on from it."""

    @abstractmethod
    def _restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `_tensors` gave."""

    # ------------------------------------------------------------------------------------------------- editing

    def edit(self, prompt: str, target: str) -> EditResult:
        """Make `prompt` answer `target`; where the prompt was edited before, instead of its earlier target.

        ValueError for an empty prompt or target, FloatingPointError when the loss or the weights are no longer finite;
        everything stored is then as it was.
        """
        self._need_attached()
        start = time.perf_counter()
        losses, steps, mask = self._edit(prompt, target)
        result = EditResult(len(self.edits), steps, losses, time.perf_counter() - start, mask)
        self.edits.append(Edit(prompt, target))
        self.log.append({"steps": steps, "first_loss": losses[0], "last_loss": losses[-1], "seconds": result.seconds})
        return result

    def edit_all(
        self,
        records: Iterable[EditRecord],
        *,
        checkpoint: Path | str | None = None,
        every: int = 50,
        generated: bool = True,
    ) -> list[EditResult]:
        """Write the records one after the other; returns the results of the edits that this call made.

        First the base model's answers to the records' irrelevant questions are remembered: locality compares with them,
        teacher-forced and, unless `generated` is False, generated.
        With `checkpoint`, the state is saved there after each `every` edits and at the end. Called again with the same
        records after a crash, it goes on from there and ends in the same state, bit for bit. A checkpoint that is
        damaged, or was made with other settings or records, is refused (ValueError) and left as it is.
        """
        self._need_attached()
        records = list(records)
        self.know(records)
        folder = None if checkpoint is None else Path(checkpoint)
        if folder is not None and (folder / store.HEADER).exists():
            records = records[self._resume(folder, records) :]
        self.remember_base(records, generated=generated)
        results = []
        for record in progress(records, "edits"):
            results.append(self.edit(record.prompt, record.target))
            if folder is not None and (len(results) % every == 0 or len(results) == len(records)):
                self.save(folder)
        return results

    def know(self, records: Iterable[EditRecord]) -> None:
        """Keep in mind which subject each record's prompt is about, for methods that write at the subject."""
        self.subjects |= {record.prompt: record.subject for record in records if record.subject}

    def edits_table(self) -> pd.DataFrame:
        """One row per stored edit, in order: steps, first_loss, last_loss (nats), seconds."""
        return pd.DataFrame(self.log)

    def _resume(self, folder: Path, records: list[EditRecord]) -> int:
        """Take over the checkpoint in `folder`; returns how many of the records it already holds."""
        tensors, header = store.read(folder)
        if header["settings"] != self._settings():
            other = {k: v for k, v in header["settings"].items() if self._settings().get(k) != v}
            raise ValueError(f"The checkpoint {folder} was made with other settings ({other}). Name another folder.")
        edits = [Edit(*edit) for edit in header["edits"]]
        planned = self.edits + [Edit(record.prompt, record.target) for record in records]
        if len(edits) < len(self.edits) or edits != planned[: len(edits)]:
            raise ValueError(f"The checkpoint {folder} holds other edits than these records. Name another folder.")
        done = len(edits) - len(self.edits)
        self._restore(tensors)
        self.edits, self.log = edits, header["log"]
        return done

    # ------------------------------------------------------------------------------------------------- keeping

    def save(self, folder: Path | str) -> None:
        """Write state, settings, edits and the base model's hash to `folder`, in one atomic step; never pickle."""
        header = {"method": self.method, "base_model": self.base_hash, "settings": self._settings()}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        about = header | {"edits": self.edits, "log": self.log, "versions": versions}
        store.write(Path(folder), self._tensors(), about)

    @classmethod
    def load(cls, folder: Path | str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "EditedModel":
        """The editor saved in `folder`, on the same base model. ValueError, naming both hashes, for another one."""
        tensors, header = store.read(Path(folder))
        found = weights_hash(model)
        if found != header["base_model"]:
            raise ValueError(f"{folder} was saved on the base model {header['base_model']}; this model is {found}.")
        if header["method"] != cls.method:
            raise ValueError(f"{folder} was saved by the method '{header['method']}', not by '{cls.method}'.")
        editor = cls._from_settings(model, tokenizer, header["settings"])
        editor._restore(tensors)
        editor.edits, editor.log = [Edit(*edit) for edit in header["edits"]], header["log"]
        return editor

    @classmethod
    def _from_settings(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: dict
    ) -> "EditedModel":
        """A fresh editor with what `_settings` gave."""
        return cls(model, tokenizer, **settings)


def progress(items: Sequence[T], what: str) -> Iterable[T]:
    """The items; a bar on a terminal, in a log a line every five minutes and none for what is over sooner."""
    seldom = {} if sys.stderr.isatty() else dict.fromkeys(("delay", "mininterval", "maxinterval"), LINES)
    return tqdm(items, unit=f" {what}", **seldom)
