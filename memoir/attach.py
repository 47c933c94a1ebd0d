"""Fasten a residual memory to a live model: which tokens are the prompt, which mask each row gets, and for how long.

A row is routed once, from the activations of its prompt's tokens. While a key-value cache is decoded, its rows keep the
route they were prefilled with; the route is kept on the cache, so several generations may be interleaved. Threads take
turns; what one of them asks for (`off`, `prompt`) holds for that thread alone.
"""

import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memoir.checks import host
from memoir.memory import ResidualMemory, Route

KEPT = "_memoir_routes"  # on a key-value cache: the routes of its rows, which deep copies of it have too
PACKED = (
    "Several texts in one row (continuous batching, packed position_ids) would all be answered by one edit. Use "
    "generate with a padded batch, or detach the editor."
)
METHODS = {  # of the model, while it is edited
    "generate": "_generate", "save_pretrained": "_save_pretrained", "generate_batch": "_refuse",
    "init_continuous_batching": "_refuse", "continuous_batching_context_manager": "_refuse",
}  # fmt: skip


class _Asked(threading.local):
    """What one thread asks for, and where its latest forward pass was routed."""

    off = 0  # in how many `off` it is
    prompt: Tensor | None = None  # (B, P) bool, where the caller knows the prompt
    forced: Tensor | None = None  # (B, D) bool masks that replace routing
    given: list[Route] | None = None  # of prompts that are read in several forward passes
    positions: Tensor | None = None
    tokens: Tensor | None = None  # ids (B, T), or embeddings (B, T, d)
    routes: list[Route] | None = None


class Attachment:
    """A hook on a model's edited Linear map and one around its forward pass; `remove` takes them off again.

    The weights are never written. With no stored edit, or for rows that match none, the map's output is passed on as
    it is, so the logits stay the base model's bit for bit. The lock is held while the model answers.
    """

    def __init__(self, model: PreTrainedModel, linear: nn.Module, memory: ResidualMemory, lock: threading.RLock):
        if "generate" in vars(model):
            raise RuntimeError(
                "This model has an editor already, and two would answer each other's prompts. Detach it first."
            )
        self.model, self.memory, self._lock, self._asked = model, memory, lock, _Asked()
        self._linear, self._made_on, self._checksum = linear, host.state(linear), host.checksum(model)
        # tokens and prompt positions (B, T) -> which stored edits may answer, (B, N) bool
        self.gate: Callable[[Tensor, Tensor], np.ndarray] | None = None
        self._handle = linear.register_forward_hook(self._add)
        self._own_forward = vars(model.base_model).get("forward")  # accelerate sets one on the instance
        model.base_model.forward = self._forward
        for name, method in METHODS.items():
            setattr(model, name, getattr(self, method))

    def __getstate__(self) -> dict:
        """For deep copies and pickles of the model, which stay edited until `detach` is called on them."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_asked")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, _lock=threading.RLock(), _asked=_Asked())

    def remove(self) -> None:
        """Take every hook off: the model is the base model again."""
        self._handle.remove()
        del self.model.base_model.forward
        if self._own_forward is not None:
            self.model.base_model.forward = self._own_forward
        for name in METHODS:
            delattr(self.model, name)

    def need_unchanged(self) -> None:
        """ValueError when the model was cast, moved or wrapped since."""
        host.need_unchanged(self._linear, self._made_on)

    def need_base(self) -> None:
        """ValueError when the model's weights are no longer those that it had."""
        if host.checksum(self.model) != self._checksum:
            raise ValueError(
                "The base model's weights are no longer those that were edited (an adapter merged, a cast?): the "
                "edits could not be loaded again. Merge first and edit afterwards."
            )

    @property
    def routes(self) -> list[Route] | None:
        """Where the rows of this thread's latest forward pass went."""
        return self._asked.routes

    @property
    def tokens(self) -> Tensor | None:
        """The tokens of this thread's latest forward pass: ids (B, T), or embeddings (B, T, d)."""
        return self._asked.tokens

    def prompt(self, positions: Tensor | None) -> AbstractContextManager[None]:
        """Route by these positions (B, P) bool; tokens to their right (a target, an answer) never count as prompt."""
        return self._while(prompt=positions)

    def forced(self, masks: Tensor) -> AbstractContextManager[None]:
        """Answer through these masks (B, D) bool instead of routing."""
        return self._while(forced=masks)

    def off(self) -> AbstractContextManager[None]:
        """Answer as the base model."""
        return self._while(off=self._asked.off + 1)

    @contextmanager
    def _while(self, **wanted) -> Iterator[None]:
        before = {name: getattr(self._asked, name) for name in wanted}
        vars(self._asked).update(wanted)
        try:
            yield
        finally:
            vars(self._asked).update(before)

    def _generate(self, *args, **kwargs):
        """`model.generate`, which alone knows where the prompt ends, in however many pieces it is read."""
        generate = type(self.model).generate
        call = _arguments(generate, self.model, *args, **kwargs)
        tokens = call.get("input_ids") if call.get("inputs") is None else call["inputs"]
        texts, mask = call.get("inputs_embeds") if tokens is None else tokens, call.get("attention_mask")
        if mask is None and texts is not None:
            mask = torch.ones(texts.shape[:2], dtype=torch.long, device=texts.device)
        config, cache = call.get("generation_config") or self.model.generation_config, call.get("past_key_values")
        chunked = call.get("prefill_chunk_size") or getattr(config, "prefill_chunk_size", None)
        with self._lock, self.prompt(None if mask is None else mask.bool()):
            if not (chunked or _begun(cache)) or not self.memory.n_edits:
                return generate(self.model, *args, **kwargs)
            if tokens is None or tokens.shape[1] < mask.shape[1]:
                raise ValueError(
                    "A prompt whose beginning is in a cache, or that is read in chunks, is routed as a whole: pass "
                    "all of its tokens as input_ids."
                )
            with torch.no_grad():
                self.model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
            with self._while(given=self.routes):
                return generate(self.model, *args, **kwargs)

    def _save_pretrained(self, *args, **kwargs):
        """`model.save_pretrained`, which knows nothing of edits."""
        lost = f"save_pretrained writes the base model without its {self.memory.n_edits} edits; editor.save keeps them."
        warnings.warn(lost, stacklevel=2)
        return type(self.model).save_pretrained(self.model, *args, **kwargs)

    def _refuse(self, *_args, **_kwargs):
        raise NotImplementedError(PACKED)

    @torch.compiler.disable  # a compiled graph would not look at routes and masks again
    def _forward(self, *args, **kwargs):
        base = self.model.base_model
        forward = self._own_forward or type(base).forward.__get__(base)
        with self._lock:
            self._before(_arguments(type(base).forward, base, *args, **kwargs))
            output = forward(*args, **kwargs)
            if (cache := getattr(output, "past_key_values", None)) is not None:
                rows = len(output.last_hidden_state)
                setattr(cache, KEPT, self.routes or [Route(None, 0.0)] * rows)
            return output

    def _before(self, call: dict) -> None:
        asked, cache, places = self._asked, call.get("past_key_values"), call.get("position_ids")
        started = _begun(cache)
        tokens = call["input_ids"] if call.get("input_ids") is not None else call["inputs_embeds"]
        asked.tokens, asked.routes = tokens, getattr(cache, KEPT, None) if started else None
        asked.positions = self._prompt_positions(tokens, call.get("attention_mask"))
        if asked.given is not None:
            asked.routes = [route for route in asked.given for _ in range(len(tokens) // len(asked.given))]
        if asked.routes is not None and len(asked.routes) != len(tokens):
            raise RuntimeError(
                f"This key-value cache was filled for {len(asked.routes)} rows and is now used with {len(tokens)}: "
                "their routes are unknown. Start again from the prompts."
            )
        if places is not None and places.shape == tokens.shape[:2] and not started and asked.prompt is None:
            real = _real(tokens, call.get("attention_mask"))
            if ((places.diff(dim=1) <= 0) & real[:, 1:] & real[:, :-1]).any():
                raise ValueError(PACKED)

    def _prompt_positions(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, T) bool: the caller's prompt where it is known, else every token that is not padding."""
        rows, length = tokens.shape[:2]
        positions = self._asked.prompt
        if positions is None:
            return _real(tokens, attention_mask)
        positions = positions.repeat_interleave(rows // len(positions), dim=0)  # beams, several sequences per prompt
        return nn.functional.pad(positions, (0, length - positions.shape[1]))

    def _add(self, _module, args, output):
        asked = self._asked
        if asked.off or (self.memory.n_edits == 0 and asked.forced is None):
            return None
        activations = args[0]
        if asked.forced is not None:
            rows, masks = torch.arange(len(output), device=output.device), asked.forced
        else:
            if asked.routes is None:
                masks = self.memory.mask_of(activations, asked.positions)
                allowed = self.gate(asked.tokens, asked.positions) if self.gate else None
                asked.routes = self.memory.route(masks, allowed)
            rows, masks = self.memory.masks_of(asked.routes)
        if len(rows) == 0:
            return None
        added = self.memory(activations[rows], masks)
        wide = torch.promote_types(output.dtype, added.dtype)  # a bfloat16 sum is rounded once, at the end
        answered = output.to(wide).index_add(0, rows, added.to(wide))
        return answered.to(output.dtype)


def _real(tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
    """(B, T) bool: the tokens that are not padding, as far as a two-dimensional mask tells."""
    if attention_mask is not None and attention_mask.dim() == 2:
        return attention_mask.bool()[:, -tokens.shape[1] :]
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


_signature = functools.cache(inspect.signature)  # at every token that is generated


def _arguments(function: Callable, *args, **kwargs) -> dict:
    """What a function of transformers is called with, by name."""
    found = _signature(function).bind_partial(*args, **kwargs).arguments
    return found | found.pop("kwargs", {})


def _begun(cache) -> bool:
    """Whether a key-value cache holds tokens."""
    return cache is not None and int(cache.get_seq_length()) > 0
