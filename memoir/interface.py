"""What every editing method offers: edit, edit_all, score, generate, save, load, detach; asked in the same way.

A method says how it edits and what its state is; batching, teacher forcing, generation and checkpoints stand here once,
so that MEMOIR and what it is compared with differ in nothing else.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
import transformers
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import metrics, store, texts
from memoir.facts.reading import EditRecord
from memoir.memory import Route
from memoir.models.registry import weights_hash
from memoir.prefix import head_logits, on
from memoir.progress import progress

BATCH = 32  # rows of a batch at most
POSITIONS = 2048  # of a batch, padding included: the logits of long targets at once would not fit


class Edit(NamedTuple):
    """A stored edit, as it was asked for."""

    prompt: str
    target: str


@dataclass(frozen=True)
class EditResult:
    """What one edit did: its index, the optimiser's steps, the loss before each, seconds, and its mask (D,) bool."""

    index: int
    steps: int
    losses: list[float]
    seconds: float
    mask: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """One target under teacher forcing: its tokens, the arg-max tokens, log p of each target token; (n,) each.

    route: where the prompt went, for methods that route.
    """

    target: Tensor
    argmax: Tensor
    log_probs: Tensor
    route: Route | None = None


class EditedModel(ABC):
    """A model under an editing method. `edits` lists what was stored; `base_hash` names the model as it was found."""

    method: str

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model, tokenizer
        self.base_hash = weights_hash(model)
        self.edits: list[Edit] = []
        self.log: list[dict] = []  # a row per edit: steps, first_loss, last_loss, seconds
        self.subjects: dict[str, str] = {}  # of the prompts that `know` was told of
        self.base_answers: dict = {}  # filled by `metrics`: what the base model says where locality is measured
        self._attached = True

    @abstractmethod
    def _edit(self, prompt: str, target: str) -> tuple[list[float], int, Tensor | None]:
        """Make `prompt` answer `target`: losses, number of steps, mask. What raises has changed nothing."""

    @abstractmethod
    def base(self) -> AbstractContextManager[None]:
        """Within `with editor.base():` the model answers as if nothing had been edited."""

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
        metrics.remember_base(self, records, generated=generated)
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

    # -------------------------------------------------------------------------------------------------- asking

    def generate(self, prompts: Sequence[str], max_new_tokens: int = 8, **kwargs) -> list[str]:
        """The continuation of each prompt, without the prompt; greedy unless kwargs (those of `generate`) differ.

        With num_return_sequences = n, n continuations per prompt, one after the other.
        """
        self._need_attached()
        options = {"do_sample": False, "max_new_tokens": max_new_tokens} | kwargs
        ids = [texts.prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        answers: list[list[str]] = [[] for _ in ids]
        for batch in by_length(ids):
            rows = self._rows([ids[i] for i in batch], side="left")
            tokens = self.model.generate(
                input_ids=rows.input_ids,
                attention_mask=rows.attention_mask,
                pad_token_id=self.tokenizer.pad_token_id,
                **options,
            )
            found = self.tokenizer.batch_decode(tokens[:, rows.input_ids.shape[1] :], skip_special_tokens=True)
            each = len(found) // len(batch)
            for place, i in enumerate(batch):
                answers[i] = found[place * each : (place + 1) * each]
        return [answer for several in answers for answer in several]

    @torch.no_grad()
    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Score]:
        """Each target under teacher forcing after its prompt. Only the prompt's tokens decide how it is answered."""
        self._need_attached()
        befores = [texts.prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        afters = [texts.target_ids(self.tokenizer, *pair) for pair in zip(prompts, targets, strict=True)]
        scores: dict[int, Score] = {}
        for batch in by_length([before + after for before, after in zip(befores, afters, strict=True)]):
            rows = self._rows([befores[i] for i in batch], [afters[i] for i in batch])
            with self._prompt(rows.prompt):
                hidden = self.model.base_model(
                    input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False
                ).last_hidden_state
            row, column = rows.target.nonzero(as_tuple=True)
            asked = hidden[on(hidden.device, row, column - 1)]
            log_probs = log_softmax(head_logits(self.model, asked).float(), dim=-1).to(row.device)
            target, argmax = rows.input_ids[row, column], log_probs.argmax(dim=-1)
            own_log_probs = log_probs.gather(1, target[:, None])[:, 0]
            for (place, i), route in zip(enumerate(batch), self._routes(len(batch)), strict=True):
                scores[i] = Score(*(found[row == place].cpu() for found in (target, argmax, own_log_probs)), route)
        return [scores[i] for i in range(len(befores))]

    def _prompt(self, _positions: Tensor) -> AbstractContextManager[None]:
        """For methods that look at the prompt: which positions (B, T) it has in the forward pass inside."""
        return nullcontext()

    def _routes(self, rows: int) -> list[Route | None]:
        """For methods that route: where each of the rows of the latest forward pass went."""
        return [None] * rows

    # ------------------------------------------------------------------------------------------------- keeping

    def save(self, folder: Path | str) -> None:
        """Write state, settings, edits and the base model's hash to `folder`, in one atomic step; never pickle."""
        header = {
            "method": self.method,
            "base_model": self.base_hash,
            "settings": self._settings(),
            "edits": self.edits,
            "log": self.log,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }
        store.write(Path(folder), self._tensors(), header)

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

    # ------------------------------------------------------------------------------------------------- helpers

    def _rows(self, befores: list[list[int]], afters: list[list[int]] | None = None, side: str = "right") -> texts.Rows:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return texts.rows_of(
            self.tokenizer, befores, afters or [[] for _ in befores], side=side, limit=limit, device=self.model.device
        )

    def _need_attached(self) -> None:
        if not self._attached:
            raise RuntimeError("This editor was detached from its model. Make or load another one to go on.")


def by_length(rows: Sequence[Sequence[int]], size: int = BATCH) -> Iterator[list[int]]:
    """Indices of the rows in batches of similar length, so that little padding is computed; fewer of long rows."""
    batch: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i])):
        if batch and (len(batch) == size or (len(batch) + 1) * len(rows[i]) > POSITIONS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
