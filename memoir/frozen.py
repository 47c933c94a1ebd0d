"""Frozen layers and tail: run the layers up to the edited one once, and only the tail at every step.

Nothing before the residual memory depends on it, so an edit's activations at the edited map and everything below are
computed once. Each optimisation step then runs the decoder layers above, and the head at target positions only.
The losses are those of the full forward pass; `tests/test_frozen.py` holds it to that.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from memoir.chat.past import PastKeyValues, positions, rows_of
from memoir.config import Family


@dataclass
class FrozenActivations:
    """What the frozen layers left for the tail, for B rows of T positions.

    activations (B, T, D)  input of the edited map: a_t
    mapped (B, T, d)       its output without memory: W0 a_t (+ bias)
    hidden (B, T, d)       output of the edited layer without memory
    computed_at            (rows, columns) of the tokens at which the tail computes, (n,) int64 each: all that are no
                           padding or, of several ways of asking, those of them that another token follows
    calls                  what each later decoder layer was called with behind its hidden states (masks, positions):
                           positional and keyword arguments
    """

    activations: Tensor
    mapped: Tensor
    hidden: Tensor
    computed_at: tuple[Tensor, Tensor]
    calls: list[tuple[tuple, dict]]

    def of(self, rows: Tensor | slice, computed_at: tuple[Tensor, Tensor]) -> "FrozenActivations":
        """That of some of the rows, (b,) int64 or a slice, whose tail computes there."""
        pick = partial(_rows_of, rows=rows, size=len(self.hidden))
        calls = [(pick(args), {name: pick(value) for name, value in named.items()}) for args, named in self.calls]
        return FrozenActivations(pick(self.activations), pick(self.mapped), pick(self.hidden), computed_at, calls)


def run_frozen(
    model: PreTrainedModel,
    family: Family,
    layer: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    past: PastKeyValues | None = None,
) -> FrozenActivations:
    """Run layers 0..layer on input_ids (B, T) under attention_mask (B, T), without memory and without gradients.

    past: texts that the rows follow.
    """
    real, options = attention_mask.nonzero(as_tuple=True), {"use_cache": False}
    if past is not None:
        attention_mask = torch.cat([past.real, attention_mask], dim=1)
        places = positions(attention_mask)[:, -input_ids.shape[1] :]
        options = {"past_key_values": past.cache, "position_ids": places}
    layers = model.get_submodule(family.layers)
    edited = layers[layer].get_submodule(family.edited)
    seen = {}

    def keep_map(_module, args, output):
        seen["activations"], seen["mapped"] = args[0], output

    def keep_output(_module, _args, output):
        seen["output"] = output

    # prepended: the memory's own hook on the edited map must not come before this one looks
    handles = [edited.register_forward_hook(keep_map, prepend=True), layers[layer].register_forward_hook(keep_output)]
    try:
        with torch.no_grad(), _skipped(layers[layer + 1 :], seen) as calls:
            model.base_model(input_ids=input_ids, attention_mask=attention_mask, **options)
    finally:
        for handle in handles:
            handle.remove()
    if seen["activations"].dim() != 3:
        raise ValueError(
            f"the edited map reads {seen['activations'].dim()} dimensions and not rows of tokens (B, T, D)"
        )
    return FrozenActivations(seen["activations"], seen["mapped"], _hidden(seen["output"]), real, calls)


def run_tail(
    model: PreTrainedModel,
    family: Family,
    layer: int,
    frozen: FrozenActivations,
    delta: Tensor,
    rows: Tensor,
    columns: Tensor,
) -> Tensor:
    """Logits (n, V) at positions (rows[i], columns[i]) when the memory adds delta (B, T, d) to the edited map's output.

    Differentiable in delta. rows and columns (n,) int64. An MLP works on each position alone, so it runs only where
    its output is looked at: at real tokens, and in the last layer where logits are asked for.
    """
    layers = model.get_submodule(family.layers)
    edited_layer = layers[layer]
    if family.post_norm:
        norm = edited_layer.get_submodule(family.post_norm)
        delta = norm(frozen.mapped + delta.to(frozen.mapped.dtype)) - norm(frozen.mapped)
    delta = delta * getattr(model.config, "residual_multiplier", 1.0)  # Granite's layers scale what they add
    hidden = (frozen.hidden + delta).to(frozen.hidden.dtype)
    inside = family.edited.rpartition(".")[0]  # where the map stands directly in a layer, no MLP runs by itself
    for module, (args, named) in zip(layers[layer + 1 :], frozen.calls, strict=True):
        mlp = [module.get_submodule(inside)] if inside else []
        with only_at(mlp, (rows, columns) if module is layers[-1] else frozen.computed_at):
            hidden = _hidden(module(hidden, *args, **named))
    # gathered into one contiguous (n, d) matrix: on a strided slice the head runs as a slow batched product
    return head_logits(model, model.get_submodule(family.norm)(hidden[on(hidden.device, rows, columns)]))


def on(device: torch.device, *positions: Tensor) -> tuple[Tensor, ...]:
    """Positions moved to where they index: the layers of a large model may be on several devices."""
    return tuple(position.to(device) for position in positions)


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits (n, V) of final hidden states (n, d), with Gemma 2's soft cap and Granite's scale where there are such."""
    logits = model.get_output_embeddings()(hidden) / getattr(model.config, "logits_scaling", 1.0)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _rows_of(value: Any, rows: Tensor | slice, size: int) -> Any:
    """The rows of whatever has one for each of `size`: masks, caches, (cosine, sine) of positions. The rest is kept."""
    if isinstance(value, tuple):
        return tuple(_rows_of(one, rows, size) for one in value)
    if isinstance(value, Cache):
        return rows_of(value, rows)
    by_row = isinstance(value, Tensor) and value.dim() > 1 and len(value) == size
    return value[rows.to(value.device) if isinstance(rows, Tensor) else rows] if by_row else value


def _hidden(output: Tensor | tuple) -> Tensor:
    """A decoder layer's hidden states: GPT-J returns them in a tuple, the other families bare."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def only_at(modules: Iterable[nn.Module], positions: tuple[Tensor, Tensor]) -> Iterator[None]:
    """Let each of `modules` compute its output at these (rows, columns) alone; elsewhere it is zero."""

    def narrow(compute: Callable, hidden: Tensor, *beside: Tensor) -> Tensor:
        if hidden.dim() < 3:  # within a module that is narrowed itself
            return compute(hidden, *beside)
        here = on(hidden.device, *positions)
        found = compute(hidden[here], *(one[here] for one in beside))  # BLOOM's and MPT's MLPs add the residual
        return found.new_zeros(*hidden.shape[:-1], found.shape[-1]).index_put(here, found)

    with replaced({module: partial(narrow, module.forward) for module in modules}):
        yield


@contextmanager
def _skipped(layers: nn.ModuleList, seen: dict) -> Iterator[list[tuple[tuple, dict]]]:
    """Skip `layers`: each only records what it is called with and returns seen["output"]."""
    calls = []

    def record(_hidden_states: Tensor, *args, **kwargs):
        calls.append((args, kwargs))
        return seen["output"]

    with replaced(dict.fromkeys(layers, record)):
        yield calls


@contextmanager
def replaced(forwards: dict[nn.Module, Callable]) -> Iterator[None]:
    """Let each module run another `forward` in place of its own."""
    originals = {module: vars(module).get("forward") for module in forwards}  # accelerate sets one on the instance
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, original in originals.items():
            del module.forward
            if original is not None:
                module.forward = original
