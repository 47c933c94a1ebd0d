"""A memory beside the edited map, entered by routing each prompt: what GRACE, DEFER and WISE have in common.

A row is routed once, from its prompt's tokens, and keeps its route while its key-value cache is decoded: the hooks are
MEMOIR's own (`attach.py`), so that the methods differ in nothing but what they store and how they route.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.attach import Attachment
from memoir.baselines.common import Baseline
from memoir.hooked import HookedModel
from memoir.interface.asking import by_length
from memoir.memory import Route
from memoir.prefix import Prefix


class SideAttachment(Attachment):
    """Rows that the editor's `_route` sends to the side memory get what its `_answer` says."""

    def _add(self, _module, args, output):
        side, asked = self.memory, self._asked
        if asked.off or not side.edits:
            return None
        fresh = any(turn.route is None for turn in asked.turns)  # the prompt is in this pass; afterwards its cache is
        prompt = torch.stack([turn.prompt for turn in asked.turns]) if fresh else None
        if fresh:
            routes = side._route(args[0], prompt)
            asked.turns = [turn._replace(route=route) for turn, route in zip(asked.turns, routes, strict=True)]
        answered = [turn for turn in asked.turns if turn.route.edit is not None]
        rows = [turn.row for turn in answered]
        if not rows:
            return None
        places = [turn.route.edit for turn in answered]
        found = side._answer(args[0][rows], output[rows], places, prompt[rows] if fresh else None)
        return output.index_copy(0, torch.tensor(rows, device=output.device), found.to(output.dtype))


class SideEditor(HookedModel, Baseline):
    """A method whose memory replaces or shifts the output of one layer's edited map for the rows it routes there."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, layer: int, **settings):
        super().__init__(model, tokenizer, layer=layer, **settings)
        self.linear = self._linear(layer)
        self._hooks = SideAttachment(model, self.linear, self, self.lock)

    @property
    def n_edits(self) -> int:
        """How many edits there are."""
        return len(self.edits)

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

    def _frozen(self, layer: int, rows: texts.Rows, start: int = 0) -> Prefix:
        with self.base():
            return super()._frozen(layer, rows, start)


def last_of(prompt: Tensor) -> Tensor:
    """Column of the last prompt token of each row of prompt (B, T) bool: (B,) int64."""
    columns = torch.arange(prompt.shape[1], device=prompt.device)
    return (prompt * (columns + 1)).argmax(dim=1)
