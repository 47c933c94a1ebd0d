"""Editing, as every method offers it: edits one by one and in sequence, saved, loaded and gone on from.

A method says how it edits (`_edit`), what its state is (`_tensors`, `_restore`) and what it was made with
(`_settings`). What every method does alike stands here and in `queryable.py`, so that they differ in nothing else.
"""

import signal
import sys
import threading
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
import transformers
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.checks import host, inputs
from memoir.facts.record import EditRecord, questions
from memoir.models.identity import described, tokenizer_hash, weights_hash
from memoir.queryable import Edit, QueryableModel
from memoir.store import card, folder as stored
from memoir.texts import Verbatim, bare, spaced_oddly, target_ids
from memoir.threads import in_turn
from memoir.write import LEARNT, Fitted

T = TypeVar("T")
LINES = 300.0  # seconds between lines in a log


@dataclass(frozen=True)
class EditResult:
    """What one edit did: its index, the optimiser's steps, the loss before each, seconds, and its mask (D,) bool.

    learnt: whether the last loss is at most `LEARNT` and, where the method looks, every token of the target is the
    likeliest: a mean over many tokens can be low while one of them, a digit, is another. replaces: the latest earlier
    edit of its prompt.
    """

    index: int
    steps: int
    losses: list[float]
    seconds: float
    mask: Tensor | None = None
    learnt: bool = True
    replaces: int | None = None

    @property
    def loss(self) -> float:
        """The last loss that was measured, in nats."""
        return self.losses[-1]


class EditedModel(QueryableModel):
    """A model under an editing method. `edits` lists what was stored.

    base_hash and tokenizer_hash name the model and its tokenizer as they were found. log: a row per edit with steps,
    first_loss, last_loss (nats) and seconds. subjects: of the prompts that `know` was told of.
    """

    method: str
    writes_jointly = False  # whether several edits are written at once (`_edit` of more than one)

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        super().__init__(model, tokenizer)
        self.base_hash, self.tokenizer_hash = weights_hash(model), tokenizer_hash(tokenizer)
        self.log: list[dict] = []
        self.subjects: dict[str, str] = {}

    def _edit(self, edits: Sequence[Edit]) -> list[Fitted]:
        """Make each prompt answer its target: one edit or, where the method writes several at once, edits of different
        prompts. What raises has changed nothing. Methods that write one after the other have `_edit_alone` instead."""
        ((prompt, target),) = edits
        return [Fitted(*self._edit_alone(prompt, target), None)]

    def _edit_alone(self, prompt: str, target: str) -> tuple[list[float], int]:
        """Make `prompt` answer `target`: losses and number of steps. What raises has changed nothing."""
        raise NotImplementedError

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

    def _need_unchanged(self) -> None:
        """For methods that never write the base model: ValueError when somebody else did, as far as is quickly told."""

    def _need_base(self) -> None:
        """For methods that never write the base model: ValueError when its weights are not those that were edited."""

    def _need_joint(self) -> None:
        """ValueError where this editor does not write several edits at once."""
        if not self.writes_jointly:
            raise ValueError(f"{self.method} writes one edit after the other: leave batch at 1.")

    @in_turn
    def edit(self, prompt: str, target: str) -> EditResult:
        """Make `prompt` answer `target`; where the prompt was edited before, instead of its earlier target.

        The target is learnt as it follows the prompt and one space, or as it stands (`texts.joined`: behind a line
        break, with a space at its beginning, as a `Verbatim`). Whatever is raised, everything stored is as it was:
        TypeError for what is no str, ValueError for an empty prompt or target, FloatingPointError when the loss or the
        weights are no longer finite. UserWarning when the target was not learnt.
        """
        result = self._edit_one(inputs.text(prompt, "prompt"), inputs.text(target, "target"))
        if not result.learnt:
            warnings.warn(
                f"{inputs.shown(target)} was not learnt as the answer to {inputs.shown(prompt)}: the loss is "
                f"{result.loss:.2g} after {result.steps} steps, and not every token is said. More steps (n_iter) or a "
                "shorter target may do.",
                stacklevel=3,
            )
        if spaced_oddly(prompt, target):
            warnings.warn(
                f"A space was put between {inputs.shown(prompt)} and {inputs.shown(target)}. If there is to be none, "
                "edit to memoir.Verbatim(target).",
                stacklevel=3,
            )
        return result

    def _edit_one(self, prompt: str, target: str) -> EditResult:
        return self._edit_some([Edit(prompt, target)])[0]

    @in_turn
    def _edit_some(self, edits: Sequence[Edit]) -> list[EditResult]:
        """Edits of different prompts, one alone or several at once: all are stored or none is."""
        self._need_attached()
        self._need_unchanged()
        start, results = time.perf_counter(), []
        with undisturbed():
            fitted = self._edit(edits)
            seconds = (time.perf_counter() - start) / len(edits)
            for edit, (losses, steps, mask, said) in zip(edits, fitted, strict=True):
                earlier = max(self._edits_of(edit.prompt), default=None)
                learnt = not losses[-1] > LEARNT and said is not False
                results.append(EditResult(len(self.edits), steps, losses, seconds, mask, learnt, earlier))
                self.edits.append(edit)
                self.log.append({"steps": steps, "first_loss": losses[0], "last_loss": losses[-1], "seconds": seconds})
                self.log[-1] |= {} if said is None else {"said": said}
        return results

    def _edits_of(self, prompt: str) -> list[int]:
        """The edits of this prompt, up to spaces at its end."""
        same = bare(prompt)
        return [i for i, edit in enumerate(self.edits) if bare(edit.prompt) == same]

    def edit_all(
        self, records: Iterable[EditRecord], *, checkpoint: Path | str | None = None, every: int = 50, batch: int = 1
    ) -> list[EditResult]:
        """Write the records in their order; returns the results of the edits that this call made.

        One after the other, or up to `batch` at once (`write.py`), which takes less time for each; ValueError
        where an editor cannot. A batch never holds two edits of one prompt, and is stored whole or not at all; each of
        its edits has an equal share of the seconds that it took.
        All records are looked at before the first is written: a TypeError or ValueError names the one at fault.
        With `checkpoint`, the state is saved there after each `every` edits, or the batch that completes them, and at
        the end. Called again after a crash, with the same records and batch, it goes on from there and ends in the same
        state, bit for bit; when all are written, it does nothing. A checkpoint that is damaged, or was made with other
        settings or records, is refused (ValueError) and left as it is. A warning at the end counts what was not learnt,
        and prompts that were edited again.
        """
        self._need_attached()
        records, every = self._checked(records), inputs.as_int(every, "every", 1)
        if inputs.as_int(batch, "batch", 1) > 1:
            self._need_joint()
        self.know(records)
        folder, begun = None if checkpoint is None else inputs.path(checkpoint, "checkpoint"), len(self.edits)
        if folder is not None and (folder / stored.HEADER).exists():
            done = self._resume(folder, records)
            records, begun = records[done:], len(self.edits) - done
        results, kept = [], 0
        try:
            for some in progress(list(together(records, batch)), "edits" if batch == 1 else "batches"):
                results += self._edit_some([Edit(record.prompt, record.target) for record in some])
                due = len(results) // every > kept // every or len(results) == len(records)
                if folder is not None and due:
                    self._save(folder, begun)
                    kept = len(results)
        except KeyboardInterrupt:
            if folder is not None and kept < len(results):
                self._save(folder, begun)
            raise
        say(results, records)
        return results

    def _checked(self, records: Iterable[EditRecord]) -> list[EditRecord]:
        if isinstance(records, EditRecord | str | bytes) or not isinstance(records, Iterable):
            raise TypeError(f"records must be a list of EditRecord, not one {type(records).__name__}.")
        records = list(records)
        for i, record in enumerate(records):
            if not isinstance(record, EditRecord):
                raise TypeError(f"records[{i}] must be an EditRecord, not {type(record).__name__}.")
            place = f"records[{i}] (id {record.id})"
            for metric, prompt, answer in questions(record):
                inputs.text(prompt, f"{place}, {metric}: prompt"), inputs.text(answer, f"{place}, {metric}: target")
                if not prompt.strip():
                    raise ValueError(f"{place}, {metric}: the prompt is empty. Leave it out, or write what is asked.")
            try:
                target_ids(self.tokenizer, record.prompt, record.target)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        return records

    def know(self, records: Iterable[EditRecord]) -> None:
        """Keep in mind which subject each record's prompt is about, for methods that write at the subject."""
        self.subjects |= {record.prompt: record.subject for record in records if record.subject}

    def edits_table(self) -> pd.DataFrame:
        """One row per stored edit, in order: steps, first_loss, last_loss (nats), seconds, learnt, replaces.

        learnt: see `EditResult`; replaces: the latest earlier edit of the same prompt, or <NA>.
        """
        last, replaces = {}, []
        for i, edit in enumerate(self.edits):
            replaces.append(last.get(bare(edit.prompt)))
            last[bare(edit.prompt)] = i
        table = pd.DataFrame(self.log)
        if len(table) == len(replaces) > 0:  # a log may outlive its edits: each edited alone, and taken back
            table["replaces"] = pd.array(replaces, dtype="Int64")
        said = table.pop("said") if "said" in table else [True] * len(table)
        rows = zip(table.get("last_loss", []), said, strict=True)
        return table.assign(learnt=[not loss > LEARNT and own is not False for loss, own in rows])

    @in_turn
    def save(self, folder: Path | str) -> None:
        """Write state, settings, edits and the base model's hash to `folder`, in one atomic step; never pickle.

        Beside them lies a model card, README.md, unless the folder has a README of its own. ValueError when the base
        model is no longer the one that was edited: nothing could load the edits again.
        """
        folder = inputs.path(folder, "folder")
        card.put(folder, self._save(folder, 0), type(self).__name__)

    @in_turn
    def _save(self, folder: Path, begun: int) -> dict:
        """The header of what was written. begun: how many edits there were when the call of `edit_all` began."""
        self._need_base()
        edits = [[*edit, isinstance(edit.target, Verbatim)] for edit in self.edits]
        header = {"method": self.method, "base_model": self.base_hash, "tokenizer": self.tokenizer_hash}
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        about = {"settings": self._settings(), "edits": edits, "begun": begun, "log": self.log, "versions": versions}
        about["described"] = described(self.model, self.tokenizer)
        stored.write(folder, self._tensors(), header | about)
        return header | about

    @classmethod
    def load(cls, folder: Path | str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "EditedModel":
        """The editor saved in `folder`, on the same base model with the same tokenizer.

        ValueError, naming both, for another model, tokenizer or method; the model is then as it was.
        """
        folder = inputs.path(folder, "folder")
        host.check(model, tokenizer)
        tensors, header = stored.read(folder)
        cls._need_same(folder, header, model, tokenizer, weights_hash(model), tokenizer_hash(tokenizer))
        editor = cls._from_settings(model, tokenizer, header["settings"])
        try:
            editor._restore(tensors)
        except BaseException:
            editor.detach()
            raise
        editor.edits, editor.log = _edits(header), header["log"]
        return editor

    @classmethod
    def _need_same(
        cls, folder: Path, header: dict, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *hashes: str
    ) -> None:
        """ValueError where a saved state is of another method, base model or tokenizer than these, of these hashes."""
        if header["method"] != cls.method:
            raise ValueError(f"{folder} was saved with the method {header['method']}; here it is {cls.method}.")
        here = described(model, tokenizer)
        for what, found in zip(here, hashes, strict=True):
            if header.get(what, found) != found:  # before format 2 the tokenizer was not noted
                then = header.get("described", {}).get(what, "one that is not described")
                raise ValueError(
                    f"{folder} was saved with the {what} {then}, SHA-256 {header[what]}; here it is {here[what]}, "
                    f"SHA-256 {found}. Edits belong to the very weights and tokens that they were made on: load those."
                )

    @classmethod
    def _from_settings(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: dict
    ) -> "EditedModel":
        """A fresh editor with what `_settings` gave."""
        return cls(model, tokenizer, **settings)

    @in_turn
    def _resume(self, folder: Path, records: list[EditRecord]) -> int:
        """Take over the checkpoint in `folder`; returns how many of the records it already holds."""
        tensors, header = stored.read(folder)
        self._need_same(folder, header, self.model, self.tokenizer, self.base_hash, self.tokenizer_hash)
        if header["settings"] != self._settings():
            other = {k: v for k, v in header["settings"].items() if self._settings().get(k) != v}
            raise ValueError(f"The checkpoint {folder} was made with other settings ({other}). Name another folder.")
        edits, planned = _edits(header), [Edit(record.prompt, record.target) for record in records]
        # called again with the records that the checkpoint was made of, or with those that come after what is stored
        for begun in (header.get("begun", 0), len(self.edits)):
            done = len(edits) - begun
            here = self.edits == edits[:begun] or (self.edits == edits and done > 0)
            if here and 0 <= done <= len(planned) and edits[begun:] == planned[:done]:
                self._restore(tensors)
                self.edits, self.log = edits, header["log"]
                return done
        raise ValueError(f"The checkpoint {folder} holds other edits than these records. Name another folder.")


def _edits(header: dict) -> list[Edit]:
    """The edits of a saved state; before format 2 no target was `Verbatim`."""
    return [
        Edit(prompt, Verbatim(target) if any(as_it_is) else target) for prompt, target, *as_it_is in header["edits"]
    ]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits until what is inside has ended: an edit is stored whole or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = []
    before = signal.signal(signal.SIGINT, lambda *found: caught.append(found)) or signal.SIG_DFL
    try:
        yield
    finally:  # also where what is inside has raised: Ctrl-C is what the caller hears of then
        signal.signal(signal.SIGINT, before)
        if caught and callable(before):
            before(*caught[0])


def say(results: list[EditResult], records: list[EditRecord]) -> None:
    """Warn of what went otherwise than asked in a sequence of edits."""
    missed = [record.id for record, result in zip(records, results, strict=True) if not result.learnt]
    again = sum(result.replaces is not None for result in results)
    if missed:
        some = ", ".join(missed[:5]) + (", …" if len(missed) > 5 else "")
        warnings.warn(
            f"{len(missed)} of {len(results)} edits were not learnt ({some}): see edits_table().", stacklevel=3
        )
    if again:
        warnings.warn(
            f"{again} of {len(results)} edits replaced an earlier edit of the same prompt, which answers no more: see "
            "the column replaces of edits_table().",
            stacklevel=3,
        )


def progress(items: Sequence[T], what: str) -> Iterable[T]:
    """The items; a bar on a terminal, in a log a line every five minutes and none for what is over sooner."""
    seldom = {} if sys.stderr.isatty() else dict.fromkeys(("delay", "mininterval", "maxinterval"), LINES)
    return tqdm(items, unit=f" {what}", **seldom)


def together(records: Iterable[EditRecord], size: int) -> Iterator[list[EditRecord]]:
    """The records in their order, at most `size` at a time, and none of one prompt twice: the later edit answers."""
    some: dict[str, EditRecord] = {}
    for record in records:
        if len(some) == size or bare(record.prompt) in some:
            yield list(some.values())
            some = {}
        some[bare(record.prompt)] = record
    if some:
        yield list(some.values())
