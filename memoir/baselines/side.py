"""A memory beside the edited map, entered by routing each prompt: what GRACE, DEFER and WISE have in common.

A row is routed once, from its prompt's tokens, and keeps its route while its key-value cache is decoded: the hooks are
MEMOIR's own (`hooks.py`), so that the methods differ in nothing but what they store and how they route.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.baselines.common import Baseline
from memoir.call import CallState
from memoir.frozen import FrozenActivations
from memoir.hooks import Attachment, Hooked
from memoir.memory import Route
from memoir.policy import Policy
from memoir.queryable import by_length


class SidePolicy(Policy):
    """Rows that the editor's `_route` sends to the side memory get what its `_answer` says."""

    def __init__(self, editor: "SideEditor"):
        self._editor = editor

    @property
    def n_edits(self) -> int:
        """How many edits there are."""
        return len(self._editor.edits)

    def output(self, activations: Tensor, mapped: Tensor, state: CallState) -> Tensor | None:
        """As `Policy.output`."""
        if not self.n_edits:
            return None
        fresh = any(turn.route is None for turn in state.turns)  # the prompt is in this pass; afterwards its cache is
        prompt = torch.stack([turn.prompt for turn in state.turns]) if fresh else None
        if fresh:
            routes = self._editor._route(activations, prompt)
            state.turns = [turn._replace(route=route) for turn, route in zip(state.turns, routes, strict=True)]
        answered = [turn for turn in state.turns if turn.route.edit is not None]
        rows = [turn.row for turn in answered]
        if not rows:
            return None
        places = [turn.route.edit for turn in answered]
        said = self._editor._answer(activations[rows], mapped[rows], places, prompt[rows] if fresh else None)
        return mapped.index_copy(0, torch.tensor(rows, device=mapped.device), said.to(mapped.dtype))


class SideEditor(Hooked, Baseline):
    """A method whose memory replaces or shifts the output of one layer's edited map for the rows it routes there."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, layer: int, **settings):
        super().__init__(model, tokenizer, layer=layer, **settings)
        self.linear = self._linear(layer)
        self._hooks = Attachment(model, self.linear, SidePolicy(self), self.lock, tokenizer.all_special_ids)

    @abstractmethod
    def _route(self, activations: Tensor, prompt: Tensor) -> list[Route]:
        """Where each row of activations (B, T, D) goes, looking at its prompt's positions (B, T) bool only."""

    @abstractmethod
    def _answer(self, activations: Tensor, output: Tensor, places: list[int], prompt: Tensor | None) -> Tensor:
        """The map's output (B, T, d) for rows routed to `places`. prompt is None when it is in the cache already."""

    @torch.no_grad()
    def route(self, prompts: Sequence[str]) -> list[Route]:
        """For each prompt the place in the side memory that answers it, or None for the base model."""
        self._need_attached()
        ids = [texts.prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        routes: dict[int, Route] = {}
        for batch in by_length(ids):
            rows = self._rows([ids[i] for i in batch])
            found = self._route(self._frozen(self.settings.layer, rows).activations, rows.prompt)
            routes |= dict(zip(batch, found, strict=True))
        return [routes[i] for i in range(len(ids))]

    def _frozen(self, layer: int, rows: texts.Rows, start: int = 0) -> FrozenActivations:
        with self.base():
            return super()._frozen(layer, rows, start)


def last_of(prompt: Tensor) -> Tensor:
    """Column of the last prompt token of each row of prompt (B, T) bool: (B,) int64."""
    columns = torch.arange(prompt.shape[1], device=prompt.device)
    return (prompt * (columns + 1)).argmax(dim=1)
