"""How a model is asked, edited or not: what it generates to prompts and in conversations, and targets teacher-forced.

Batching, and what the base model said before any edit, stand here once, so that methods are asked alike; where a prompt
is routed, and whether anything was edited, the method says.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.chat.messages import Conversation, as_conversations, is_one
from memoir.chat.template import answered, rendered_ids
from memoir.checks import inputs
from memoir.facts.record import LOCALITIES, EditRecord, questions
from memoir.frozen import head_logits, on
from memoir.memory import Route
from memoir.threads import in_turn

BATCH = 32  # rows of a batch at most
NOT_TEXT = ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states")
POSITIONS = 2048  # of a batch, padding included: the logits of long targets at once would not fit


class Edit(NamedTuple):
    """A stored edit, as it was asked for."""

    prompt: str
    target: str


@dataclass(frozen=True)
class Score:
    """One target under teacher forcing: its tokens, the arg-max tokens, log p of each target token; (n,) each.

    route: where the prompt went, for methods that route.
    """

    target: Tensor
    argmax: Tensor
    log_probs: Tensor
    route: Route | None = None


class BaseAnswer(NamedTuple):
    """What the untouched model says to a question: under teacher forcing, and generated (None: not asked)."""

    score: Score
    text: str | None


class QueryableModel(ABC):
    """A model that answers, whatever was edited into it. `edits` lists what was stored.

    Wherever prompts are asked for, one str gets one answer and a list of them a list; so it is with conversations,
    lists of {"role": ..., "content": ...} as transformers takes them, through the tokenizer's own chat template.
    TypeError for what is no text, with its place in the list; ValueError where the tokenizer has no chat template or
    the template refuses a conversation, where nobody asks, or where the last message of the user is empty. Calls from
    several threads are answered one after the other.
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
    def generate(self, prompts: Sequence[str] | str, max_new_tokens: int | None = None, **kwargs) -> list[str] | str:
        """The continuation of each prompt, without the prompt; greedy, of 8 tokens, unless kwargs (those of
        `model.generate`, a generation_config among them) differ. ValueError for those that ask for more than text.

        With num_return_sequences = n, n continuations per prompt, one after the other (a list for one prompt too).
        """
        self._need_attached()
        ids = [texts.prompt_ids(self.tokenizer, prompt) for prompt in several(prompts)]
        said = self._continued(ids, max_new_tokens, 8, kwargs)
        return said[0] if isinstance(prompts, str) and len(said) == 1 else said

    @in_turn
    def chat(
        self, conversations: Conversation | Sequence[Conversation], max_new_tokens: int | None = None, **kwargs
    ) -> list[str] | str:
        """The assistant's next message of each conversation, or the rest of one that is half written.

        Greedy, and of 50 tokens at most, unless kwargs (as in `generate`) differ. `model.generate` and pipelines, asked
        with `tokenizer.apply_chat_template`, answer the same.
        """
        self._need_attached()
        asked = as_conversations(conversations)
        said = self._continued([rendered_ids(self.tokenizer, one) for one in asked], max_new_tokens, 50, kwargs)
        return said[0] if is_one(conversations) and len(said) == 1 else said

    @in_turn
    @torch.no_grad()
    def score_chat(
        self, conversations: Conversation | Sequence[Conversation], targets: Sequence[str] | str
    ) -> list[Score] | Score:
        """Each target under teacher forcing as the assistant's next message, without the end of its turn."""
        self._need_attached()
        pairs = zip(as_conversations(conversations), several(targets, "targets"), strict=True)
        befores, afters = zip(*(answered(self.tokenizer, *pair, end=False) for pair in pairs), strict=True)
        found = self._scored(list(befores), list(afters))
        return found[0] if is_one(conversations) else found

    def _continued(self, ids: list[list[int]], most: int | None, usual: int, kwargs: dict) -> list[str]:
        """most: tokens at most; None: `usual`, or what a generation_config says, which decides how is sampled, too."""
        if wrong := next((name for name in NOT_TEXT if kwargs.get(name)), None):
            raise ValueError(
                f"{wrong} asks for more than text, which is all that is returned here: use model.generate."
            )
        options = {} if kwargs.get("generation_config") else {"do_sample": False, "max_new_tokens": usual}
        options |= {} if most is None else {"max_new_tokens": inputs.as_int(most, "max_new_tokens", 1)}
        options |= kwargs
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

    @in_turn
    @torch.no_grad()
    def score_tokens(self, pairs: Sequence[tuple[list[int], list[int]]], batch: int = BATCH) -> list[Score]:
        """As `score`, of the tokens of prompts and of targets behind them; batch: rows in one pass at most."""
        self._need_attached()
        return self._scored([before for before, _ in pairs], [after for _, after in pairs], batch)

    def _scored(self, befores: list[list[int]], afters: list[list[int]], most: int = BATCH) -> list[Score]:
        scores: dict[int, Score] = {}
        for batch in by_length([before + after for before, after in zip(befores, afters, strict=True)], most):
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
