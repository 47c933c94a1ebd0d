"""Fasten a residual memory to a live model: which tokens are the prompt, which mask each turn gets, and for how long.

A turn (`turns.py`) is routed once, from the activations of the tokens that ask, and its route is kept on the key-value
cache, so several generations may be interleaved; tokens that the model generates are never routed. Threads take turns;
what one of them asks for (`off`, `prompt`) holds for that thread alone.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memoir import turns
from memoir.checks import host
from memoir.memory import Route
from memoir.turns import Questions, Turn

METHODS = {  # of the model, while it is edited
    "generate": "_generate", "save_pretrained": "_save_pretrained", "generate_batch": "_refuse",
    "init_continuous_batching": "_refuse", "continuous_batching_context_manager": "_refuse",
}  # fmt: skip


class _Asked(threading.local):
    """What one thread asks for, and where its latest forward pass was routed."""

    off = 0  # in how many `off` it is
    prompt: Tensor | None = None  # (B, P) bool, where the caller knows the prompt
    text: Tensor | None = None  # (B, P) its ids, where its beginning may be in a cache
    forced: Tensor | None = None  # (B, D) bool masks that replace routing
    given: tuple[int, list[Turn]] | None = None  # rows and turns of prompts that are read in several forward passes
    tokens: Tensor | None = None  # of the latest forward pass: ids (B, T), or embeddings (B, T, d)
    past = 0  # and how many were in its cache before
    turns: list[Turn] | None = None


class Attachment:
    """A hook on a model's edited Linear map and one around its forward pass; `remove` takes them off again.

    The weights are never written. With no stored edit, or for rows that match none, the map's output is passed on as
    it is, so the logits stay the base model's bit for bit. The lock is held while the model answers.
    """

    def __init__(self, model: PreTrainedModel, linear: nn.Module, memory: Any, lock: threading.RLock):
        if "generate" in vars(model):
            raise RuntimeError(
                "This model has an editor already, and two would answer each other's prompts. Detach it first."
            )
        self.model, self.memory, self._lock, self._asked = model, memory, lock, _Asked()
        self._linear, self._made_on, self._checksum = linear, host.state(linear), host.checksum(model)
        # tokens, prompt positions (B, T), activations (B, T, D) -> where prompts go, in place of the memory's routing
        self.choose: Callable[[Tensor, Tensor, Tensor], list[Route]] | None = None
        # what asks among a row's tokens; where questions go, and what is read at their ends; None: all of a prompt asks
        self.questions: Questions | None = None
        self.routed: Callable[[list[Turn]], list[Turn]] | None = None
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
        self.choose = self.routed = None  # the editor's own methods, which would keep it in memory

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
        """Where the rows of this thread's latest forward pass went; None where nothing was routed."""
        asked = self._asked
        return turns.latest(asked.turns, len(asked.tokens)) if any(turn.route for turn in asked.turns or ()) else None

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
        call = host.arguments(generate, self.model, *args, **kwargs)
        tokens = call.get("input_ids") if call.get("inputs") is None else call["inputs"]
        texts, mask = call.get("inputs_embeds") if tokens is None else tokens, call.get("attention_mask")
        if mask is None and texts is not None:
            mask = torch.ones(texts.shape[:2], dtype=torch.long, device=texts.device)
        config, cache = call.get("generation_config") or self.model.generation_config, call.get("past_key_values")
        chunked = call.get("prefill_chunk_size") or getattr(config, "prefill_chunk_size", None)
        with self._lock, self._while(prompt=None if mask is None else mask.bool(), text=tokens):
            held = turns.length(cache)
            last = turns.last(self.questions, tokens, self._asked.prompt) if held else None
            if last is not None and self.memory.n_edits and not self._asked.off:
                turns.shorten(cache, len(tokens), last)
            begun = held and (last is None or turns.torn(cache, len(tokens), last))
            if not (self.memory.n_edits and (chunked or begun)):
                return generate(self.model, *args, **kwargs)
            if tokens is None or tokens.shape[1] < mask.shape[1]:
                raise ValueError(
                    "A prompt whose beginning is in a cache, or that is read in chunks, is routed as a whole: pass "
                    "all of its tokens as input_ids."
                )
            with torch.no_grad():
                self.model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
            with self._while(given=(len(tokens), self._asked.turns)):
                return generate(self.model, *args, **kwargs)

    def _save_pretrained(self, *args, **kwargs):
        """`model.save_pretrained`, which knows nothing of edits."""
        lost = f"save_pretrained writes the base model without its {self.memory.n_edits} edits; editor.save keeps them."
        warnings.warn(lost, stacklevel=2)
        return type(self.model).save_pretrained(self.model, *args, **kwargs)

    def _refuse(self, *_args, **_kwargs):
        raise NotImplementedError(turns.PACKED)

    @torch.compiler.disable  # a compiled graph would not look at routes and masks again
    def _forward(self, *args, **kwargs):
        base = self.model.base_model
        forward = self._own_forward or type(base).forward.__get__(base)
        with self._lock:
            self._before(host.arguments(type(base).forward, base, *args, **kwargs))
            output = forward(*args, **kwargs)
            if (cache := getattr(output, "past_key_values", None)) is not None:
                turns.keep(cache, len(output.last_hidden_state), self._asked.turns)
            return output

    def _before(self, call: dict) -> None:
        asked, cache, places = self._asked, call.get("past_key_values"), call.get("position_ids")
        tokens = call["input_ids"] if call.get("input_ids") is not None else call["inputs_embeds"]
        real, past = turns.real(tokens, call.get("attention_mask")), turns.length(cache)
        known = turns.kept(cache, len(tokens)) if past else None
        if asked.given is not None:
            each = len(tokens) // asked.given[0]  # beams, several sequences per prompt
            known = [turn._replace(row=turn.row * each + i) for turn in asked.given[1] for i in range(each)]
        elif self.questions is not None:
            known = (known or []) + self._new(tokens, real, past)
        asked.tokens, asked.past = tokens, past
        asked.turns = turns.whole(self._prompt_positions(tokens, real)) if known is None else known
        if places is not None and not past and asked.prompt is None:
            turns.need_one_text(places, real)

    def _new(self, tokens: Tensor, real: Tensor, past: int) -> list[Turn]:
        """The turns that begin in these tokens, where questions ask; each question is routed as if it stood alone."""
        asked = self._asked
        generated = tokens.shape[1] == 1 if asked.prompt is None else past >= asked.prompt.shape[1]
        if asked.off or self.memory.n_edits == 0 or (past and generated):
            return []
        if tokens.is_floating_point():
            raise ValueError('span="question" reads the tokens that ask: ask with input_ids, not inputs_embeds.')
        if past and asked.text is not None:
            each = len(tokens) // len(asked.text)
            text, prompt = (found.repeat_interleave(each, dim=0) for found in (asked.text, asked.prompt))
            found = turns.asked(self.questions, text, prompt, 0, False)
            found = [turn for turn in found if past <= turn.start and turn.end <= past + tokens.shape[1]]
        else:
            prompt = real if past else self._prompt_positions(tokens, real)
            found = turns.asked(self.questions, tokens, prompt, past, past > 0)
        return self.routed(found) if found else []

    def _prompt_positions(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(B, T) bool: the caller's prompt where it is known, else every token that is not padding."""
        rows, length = tokens.shape[:2]
        positions = self._asked.prompt
        if positions is None:
            return real
        positions = positions.repeat_interleave(rows // len(positions), dim=0)  # beams, several sequences per prompt
        return nn.functional.pad(positions, (0, length - positions.shape[1]))

    def _add(self, _module, args, output):
        asked = self._asked
        if asked.off or (self.memory.n_edits == 0 and asked.forced is None):
            return None
        activations, answered, here = args[0], [], None
        if asked.forced is not None:
            rows, masks = torch.arange(len(output), device=output.device), asked.forced
        else:
            self._route(activations)
            answered, here = turns.answered(asked.turns, asked.past, activations.shape[1])
            rows = torch.tensor([turn.row for turn in answered], dtype=torch.long, device=output.device)
            masks = self.memory.masks_of([turn.route for turn in answered])[1]
        if len(rows) == 0:
            return None
        added = self.memory(turns.read_alone(activations[rows], answered, asked.tokens, asked.past), masks)
        if here is not None:
            added = added * here.to(added.device)[..., None]
        wide = torch.promote_types(output.dtype, added.dtype)  # a bfloat16 sum is rounded once, at the end
        answered = output.to(wide).index_add(0, rows, added.to(wide))
        return answered.to(output.dtype)

    def _route(self, activations: Tensor) -> None:
        """Route prompts that all of their tokens ask, once these are here; questions were routed beforehand."""
        asked = self._asked
        if all(turn.route for turn in asked.turns):
            return
        positions = torch.stack([turn.prompt for turn in asked.turns])
        if self.choose:
            routes = self.choose(asked.tokens, positions, activations)
        else:
            routes = self.memory.route(self.memory.mask_of(activations, positions))
        asked.turns = [turn._replace(prompt=None, route=own) for turn, own in zip(asked.turns, routes, strict=True)]
