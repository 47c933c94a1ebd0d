"""How a model is asked, edited or not: generated answers, targets under teacher forcing, and tables of both.

Batching, and what the base model said before any edit, stand here once, so that methods are asked alike. Knows
records; where a prompt is routed, and whether anything was edited, the method says.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import metrics, texts
from memoir.checks import inputs
from memoir.facts.record import LOCALITIES, EditRecord, questions
from memoir.interface.threads import in_turn
from memoir.memory import Route
from memoir.metrics import GENERATED, TEACHER_FORCED, Score
from memoir.prefix import head_logits, on

BATCH = 32  # rows of a batch at most
POSITIONS = 2048  # of a batch, padding included: the logits of long targets at once would not fit


class Edit(NamedTuple):
    """A stored edit, as it was asked for."""

    prompt: str
    target: str


class BaseAnswer(NamedTuple):
    """What the untouched model says to a question: under teacher forcing, and generated (None: not asked)."""

    score: Score
    text: str | None


class Asked(ABC):
    """A model that answers, whatever was edited into it. `edits` lists what was stored.

    Wherever prompts are asked for, one str gets one answer and a list of them a list. TypeError for what is no text,
    with its place in the list. Calls from several threads are answered one after the other.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer, self.lock = model, tokenizer, threading.RLock()
        self.edits: list[Edit] = []
        self.base_answers: dict[tuple[str, str], BaseAnswer] = {}  # where locality is measured, by prompt and answer
        self._attached = True

    def __getstate__(self) -> dict:
        """For deep copies and pickles of a model that has an editor to ask."""
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, lock=threading.RLock())

    @abstractmethod
    def base(self) -> AbstractContextManager[None]:
        """Within `with editor.base():` the model answers as if nothing had been edited."""

    @in_turn
    def generate(self, prompts: Sequence[str] | str, max_new_tokens: int = 8, **kwargs) -> list[str] | str:
        """The continuation of each prompt, without the prompt; greedy unless kwargs (those of `generate`) differ.

        With num_return_sequences = n, n continuations per prompt, one after the other (a list for one prompt too).
        """
        self._need_attached()
        ids = [texts.prompt_ids(self.tokenizer, prompt) for prompt in several(prompts)]
        said = self._continued(ids, max_new_tokens, kwargs)
        return said[0] if isinstance(prompts, str) and len(said) == 1 else said

    def _continued(self, ids: list[list[int]], max_new_tokens: int, kwargs: dict) -> list[str]:
        options = {"do_sample": False, "max_new_tokens": inputs.whole(max_new_tokens, "max_new_tokens", 1)} | kwargs
        answers: list[list[str]] = [[] for _ in ids]
        for batch in by_length(ids):
            rows = self._rows([ids[i] for i in batch], side="left")
            asked = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask}
            tokens = self.model.generate(**asked, pad_token_id=self.tokenizer.pad_token_id, **options)
            found = self.tokenizer.batch_decode(tokens[:, rows.input_ids.shape[1] :], skip_special_tokens=True)
            each = len(found) // len(batch)
            for place, i in enumerate(batch):
                answers[i] = found[place * each : (place + 1) * each]
        return [answer for several in answers for answer in several]

    @in_turn
    @torch.no_grad()
    def score(self, prompts: Sequence[str] | str, targets: Sequence[str] | str) -> list[Score] | Score:
        """Each target under teacher forcing after its prompt. Only the prompt's tokens decide how it is answered."""
        self._need_attached()
        pairs = inputs.pairs(several(prompts), several(targets, "targets"), "prompts", "targets")
        befores = [texts.prompt_ids(self.tokenizer, prompt) for prompt, _ in pairs]
        found = self._scored(befores, [texts.target_ids(self.tokenizer, *pair) for pair in pairs])
        return found[0] if isinstance(prompts, str) else found

    def _scored(self, befores: list[list[int]], afters: list[list[int]]) -> list[Score]:
        scores: dict[int, Score] = {}
        for batch in by_length([before + after for before, after in zip(befores, afters, strict=True)]):
            rows = self._rows([befores[i] for i in batch], [afters[i] for i in batch])
            with self._prompt(rows.prompt):
                read = dict(input_ids=rows.input_ids, attention_mask=rows.attention_mask)
                hidden = self.model.base_model(**read, use_cache=False).last_hidden_state
            row, column = rows.target.nonzero(as_tuple=True)
            asked = hidden[on(hidden.device, row, column - 1)]
            log_probs = log_softmax(head_logits(self.model, asked).float(), dim=-1).to(row.device)
            target, argmax = rows.input_ids[row, column], log_probs.argmax(dim=-1)
            own_log_probs = log_probs.gather(1, target[:, None])[:, 0]
            for (place, i), route in zip(enumerate(batch), self._routes(len(batch)), strict=True):
                here = row == place
                scores[i] = Score(target[here].cpu(), argmax[here].cpu(), own_log_probs[here].cpu(), route)
        return [scores[i] for i in range(len(befores))]

    def _prompt(self, _positions: Tensor) -> AbstractContextManager[None]:
        """For methods that look at the prompt: which positions (B, T) it has in the forward pass inside."""
        return nullcontext()

    def _routes(self, rows: int) -> list[Route | None]:
        """For methods that route: where each of the rows of the latest forward pass went."""
        return [None] * rows

    @in_turn
    def said(self, prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
        """What the model generates greedily after each prompt: exactly as many tokens as the answer has."""
        lengths = [len(texts.target_ids(self.tokenizer, p, a)) for p, a in zip(prompts, answers, strict=True)]
        found: dict[int, str] = {}
        prompts = list(prompts)
        for n in set(lengths):
            places = [i for i, length in enumerate(lengths) if length == n]
            some = self.generate([prompts[i] for i in places], max_new_tokens=n, min_new_tokens=n)
            found |= dict(zip(places, some, strict=True))
        return [found[i] for i in range(len(prompts))]

    @in_turn
    def remember_base(self, records: Iterable[EditRecord], *, generated: bool = True) -> None:
        """Ask the base model what locality will be compared with, once for each question, and keep what it says."""
        asked = (question for record in records for question in questions(record))
        self.remember([(prompt, answer) for metric, prompt, answer in asked if metric in LOCALITIES], generated)

    @in_turn
    def remember(self, pairs: Iterable[tuple[str, str]], generated: bool) -> None:
        """Ask the base model these (prompt, answer) pairs, once each, and keep what it says in `base_answers`."""
        known = {pair for pair, said in self.base_answers.items() if said.text is not None or not generated}
        missing = set(pairs) - known
        if not missing:
            return
        prompts, answers = zip(*sorted(missing), strict=True)
        with self.base():
            scores = self.score(prompts, answers)
            said = self.said(prompts, answers) if generated else [None] * len(prompts)
        for pair, *answer in zip(zip(prompts, answers, strict=True), scores, said, strict=True):
            self.base_answers[pair] = BaseAnswer(*answer)

    def _rows(
        self, befores: list[list[int]], afters: list[list[int]] | None = None, side: str = "right", begun: int = 0
    ) -> texts.Rows:
        """Padded rows; begun: so many tokens stand before them."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        limit = None if limit is None else limit - begun
        return texts.rows_of(
            self.tokenizer, befores, afters or [[] for _ in befores], side=side, limit=limit, device=self.model.device
        )

    def _need_attached(self) -> None:
        if not self._attached:
            raise RuntimeError("This editor was detached from its model. Make or load another one to go on.")


def several(prompts: object, name: str = "prompts") -> list[str]:
    """A list of texts; one text is a list of one."""
    return inputs.texts([prompts] if isinstance(prompts, str) else prompts, name)


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


def evaluate(editor: Asked, records: Iterable[EditRecord], *, generated: bool = True) -> pd.DataFrame:
    """One row per record, metric and protocol: columns record, metric, protocol, value in [0, 1].

    reliability: the edit's prompt; generalization: the mean over its rephrasings; locality: the irrelevant question,
    same answer as the base model's, right or wrong; neighbour locality: the same for the near neighbour.
    """
    return metrics.per_record(ask(editor, records, generated=generated))


def ask(editor: Asked, records: Iterable[EditRecord], *, generated: bool = True) -> pd.DataFrame:
    """One row per question: its values, and how it was answered.

    Columns: record, metric, teacher-forced and (where asked) generated in [0, 1], nll: the mean over answer tokens of
    -log p in nats, likely: the share of answer tokens with p above 0.8, tokens: how many there are, overlap: R in
    [0, 1], route: "own edit" (the one of its record), "other edit" or "base model". Overlap and route are missing for
    methods that do not route.
    """
    records = list(records)
    editor.remember_base(records, generated=generated)
    own = {edit.prompt: i for i, edit in enumerate(editor.edits)}  # of edits of one prompt the latest answers
    asked = [(record.id, own.get(record.prompt), *question) for record in records for question in questions(record)]
    frame = pd.DataFrame(asked, columns=["record", "own", "metric", "prompt", "answer"])
    kept, pairs = frame.metric.isin(LOCALITIES), zip(frame.prompt, frame.answer, strict=True)
    before = [editor.base_answers[pair] if keep else None for pair, keep in zip(pairs, kept, strict=True)]
    prompts, answers = [row[3] for row in asked], [row[4] for row in asked]  # a column would make a Verbatim a str
    scores = editor.score(prompts, answers)
    frame[TEACHER_FORCED] = [
        metrics.token_agreement(b.score, score) if b else metrics.token_accuracy(score)
        for b, score in zip(before, scores, strict=True)
    ]
    if generated:
        expected = [b.text if b else answer for b, answer in zip(before, frame.answer, strict=True)]
        texts = [_told(editor.tokenizer, *pair) for pair in zip(scores, before, strict=True)]
        rest = [row[3:] for row, text in zip(asked, texts, strict=True) if text is None]
        said = iter(editor.said(*zip(*rest, strict=True)) if rest else ())
        texts = [next(said) if text is None else text for text in texts]
        frame[GENERATED] = list(map(metrics.exact_match, texts, expected))
    frame["nll"] = [metrics.nll(score) for score in scores]
    frame["likely"] = [metrics.likely_tokens(score) for score in scores]
    frame["tokens"] = [len(score.target) for score in scores]
    frame["overlap"] = [score.route.overlap if score.route else None for score in scores]
    frame["route"] = [way(score, own) for score, own in zip(scores, frame.own, strict=True)]
    return frame.drop(columns=["own", "prompt", "answer"])


def _told(tokenizer: PreTrainedTokenizerBase, score: Score, before: BaseAnswer | None) -> str | None:
    """What is generated, where the scores tell it: all of a target's tokens are the likeliest, or no edit answers."""
    if before is not None:
        return before.text if score.route and score.route.edit is None else None
    return tokenizer.decode(score.target, skip_special_tokens=True) if score.argmax.equal(score.target) else None


def way(score: Score, own: float | None) -> str | None:
    """How a question was answered; own: the index of its record's edit, if it has one."""
    if score.route is None:
        return None
    if score.route.edit is None:
        return "base model"
    return "own edit" if score.route.edit == own else "other edit"
