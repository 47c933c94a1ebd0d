"""Fasten a residual memory to a live model: which tokens are the prompt, which mask each row gets, and for how long.

A row is routed once, from the activations of its prompt's tokens. While a key-value cache is decoded, its rows keep the
route they were prefilled with; the route is kept beside the cache, so several generations may be interleaved.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memoir.interface import EditedModel
from memoir.memory import ResidualMemory, Route


class Attachment:
    """Hooks on a model's edited Linear map and around its forward pass; `remove` takes them off again.

    The weights are never written. With no stored edit, or for rows that match none, the map's output is passed on as
    it is, so the logits stay the base model's bit for bit.
    """

    def __init__(self, model: PreTrainedModel, linear: nn.Module, memory: ResidualMemory):
        if "generate" in vars(model):
            raise RuntimeError(
                "This model has an editor already, and two would answer each other's prompts. Detach it first."
            )
        self.model, self.memory = model, memory
        self._signature = inspect.signature(model.base_model.forward)
        self._kept: WeakKeyDictionary = WeakKeyDictionary()  # key-value cache -> routes of its rows
        self._prompt: Tensor | None = None  # (B, P) bool, where the caller knows the prompt
        self._forced: Tensor | None = None  # (B, D) bool masks that replace routing
        self._positions: Tensor | None = None
        self.tokens: Tensor | None = None  # of the latest forward pass: ids (B, T), or embeddings (B, T, d)
        # tokens and prompt positions (B, T) -> which stored edits may answer, (B, N) bool
        self.gate: Callable[[Tensor, Tensor], np.ndarray] | None = None
        self.routes: list[Route] | None = None  # of the latest forward pass
        self._on = True
        self._handles = [
            model.base_model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.base_model.register_forward_hook(self._after),
            linear.register_forward_hook(self._add),
        ]
        self._generate = model.generate
        model.generate = self._generate_from_prompt

    def remove(self) -> None:
        """Take every hook off: the model is the base model again."""
        for handle in self._handles:
            handle.remove()
        del self.model.generate

    @contextmanager
    def prompt(self, positions: Tensor | None) -> Iterator[None]:
        """Route by these positions (B, P) bool; tokens to their right (a target, an answer) never count as prompt."""
        self._prompt = positions
        try:
            yield
        finally:
            self._prompt = None

    @contextmanager
    def forced(self, masks: Tensor) -> Iterator[None]:
        """Answer through these masks (B, D) bool instead of routing."""
        self._forced = masks
        try:
            yield
        finally:
            self._forced = None

    @contextmanager
    def off(self) -> Iterator[None]:
        """Answer as the base model."""
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before

    def _generate_from_prompt(self, *args, **kwargs):
        """`model.generate`, which alone knows where the prompt ends when no cache is used."""
        positions = kwargs.get("attention_mask")
        with self.prompt(None if positions is None else positions.bool()):
            return self._generate(*args, **kwargs)

    def _before(self, _module, args, kwargs):
        call = self._signature.bind_partial(*args, **kwargs).arguments
        cache = call.get("past_key_values")
        started = cache is not None and int(cache.get_seq_length()) > 0
        tokens = call["input_ids"] if call.get("input_ids") is not None else call["inputs_embeds"]
        self.tokens = tokens
        self.routes = self._kept.get(cache) if started else None
        if self.routes is not None and len(self.routes) != len(tokens):
            raise RuntimeError(
                f"This key-value cache was filled for {len(self.routes)} rows and is now used with {len(tokens)}: "
                "their routes are unknown. Start again from the prompts."
            )
        self._positions = self._prompt_positions(tokens, call.get("attention_mask"))

    def _prompt_positions(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, T) bool: the caller's prompt where it is known, else every token that is not padding."""
        rows, length = tokens.shape[:2]
        positions = self._prompt
        if positions is None and attention_mask is not None and attention_mask.dim() == 2:
            positions = attention_mask.bool()[:, -length:]
        if positions is None:
            return torch.ones(rows, length, dtype=torch.bool, device=tokens.device)
        positions = positions.repeat_interleave(rows // len(positions), dim=0)  # beams, several sequences per prompt
        return nn.functional.pad(positions, (0, length - positions.shape[1]))

    def _add(self, _module, args, output):
        if not self._on or (self.memory.n_edits == 0 and self._forced is None):
            return None
        activations = args[0]
        if self._forced is not None:
            rows, masks = torch.arange(len(output), device=output.device), self._forced
        else:
            if self.routes is None:
                masks = self.memory.mask_of(activations, self._positions)
                allowed = self.gate(self.tokens, self._positions) if self.gate else None
                self.routes = self.memory.route(masks, allowed)
            rows, masks = self.memory.masks_of(self.routes)
        if len(rows) == 0:
            return None
        added = self.memory(activations[rows], masks)
        wide = torch.promote_types(output.dtype, added.dtype)  # a bfloat16 sum is rounded once, at the end
        answered = output.to(wide).index_add(0, rows, added.to(wide))
        return answered.to(output.dtype)

    def _after(self, _module, _args, output):
        cache = getattr(output, "past_key_values", None)
        if cache is not None:
            rows = len(output.last_hidden_state)
            self._kept[cache] = self.routes or [Route(None, 0.0)] * rows


class HookedModel(EditedModel):
    """A method that answers beside the model's own map, through an `Attachment`, and never writes its weights."""

    _hooks: Attachment

    def base(self) -> AbstractContextManager[None]:
        """Within `with editor.base():` the model answers as if nothing had been edited."""
        return self._hooks.off()

    def detach(self) -> None:
        """Leave the model as it was found: the base model again, bit for bit. What is stored can still be saved."""
        if self._attached:
            self._hooks.remove()
            self._attached = False

    def _prompt(self, positions: Tensor) -> AbstractContextManager[None]:
        return self._hooks.prompt(positions)
