"""What stands before the tokens that an edit acts on: read once for all of its steps, by all of its rows together.

A pass over a few tokens takes as long as reading the model's weights does, so a few rows take little more than one. The
texts before a question are the same for many edits, and their key-value caches are kept from edit to edit.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

MAX_CACHED = 96  # texts before questions: all that `formats.py` has fit


@dataclass(frozen=True)
class PastKeyValues:
    """B texts that were read, padded on the left. cache: keys and values (B, heads, T, size) of each layer, for any
    number of passes behind them: it never grows. real (B, T) int64: 0 at padding, which positions do not count."""

    cache: Cache
    real: Tensor


class PastReader:
    """Reads what stands before, for one model; the readings of a few texts are kept. base: within it the model answers
    as if nothing had been edited, as it reads here."""

    def __init__(self, model: PreTrainedModel, base: Callable[[], AbstractContextManager]):
        self._model, self._base, self._cached = model, base, {}

    def __getstate__(self) -> dict:
        """For deep copies and pickles; texts are read again."""
        return vars(self) | {"_cached": {}}

    def __call__(self, rows: list[list[int]], firsts: Sequence[int]) -> PastKeyValues:
        """Rows of tokens, of which those from an index on, the first of the row's question, are this edit's own."""
        with self._base():
            past = [self._text(tuple(row[:first])) for row, first in zip(rows, firsts, strict=True)]
            own = [row[first:] for row, first in zip(rows, firsts, strict=True)]
            return read(self._model, own, _together(past))

    def _text(self, ids: tuple[int, ...]) -> PastKeyValues | None:
        if ids and ids not in self._cached:
            if len(self._cached) == MAX_CACHED:
                self._cached.pop(next(iter(self._cached)))
            self._cached[ids] = read(self._model, [list(ids)])
        return self._cached.get(ids)


def read(model: PreTrainedModel, rows: list[list[int]], past: PastKeyValues | None = None) -> PastKeyValues:
    """Read B rows of tokens, some of which may be empty. past: B texts that they follow, which the result has too."""
    longest = max(map(len, rows))
    if not longest:
        return past
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    return read_padded(model, ids, real, past)


@torch.no_grad()
def read_padded(model: PreTrainedModel, ids: Tensor, real: Tensor, past: PastKeyValues | None = None) -> PastKeyValues:
    """As `read`, for ids (B, T) that are padded on the right; real (B, T) int64: 0 at padding."""
    cache = DynamicCache()
    if past is not None:
        real = torch.cat([past.real, real], dim=1)
        for i, layer in enumerate(past.cache.layers):
            cache.update(layer.keys, layer.values, i)
    places = positions(real)[:, -ids.shape[1] :]
    model.base_model(input_ids=ids, attention_mask=real, position_ids=places, past_key_values=cache, use_cache=True)
    return _aligned(cache, real)


def positions(real: Tensor) -> Tensor:
    """Where each token stands among the real ones of its row, (B, T) int64 from 0; real (B, T) int64."""
    return (real.cumsum(dim=1) - 1).clamp(min=0)


def rows_of(cache: Cache, rows: Tensor | slice) -> Cache:
    """The cache of some of a `PastKeyValues`'s rows."""
    found = DynamicCache()
    for i, layer in enumerate(cache.layers):
        found.update(layer.keys[rows], layer.values[rows], i)
    return _never_growing(found)


def _together(texts: list[PastKeyValues | None]) -> PastKeyValues | None:
    """Texts of one row each, or none, as those of several rows; None where there is none at all."""
    some, cache = next((text for text in texts if text), None), DynamicCache()
    if some is None:
        return None
    longest = max(text.real.shape[1] for text in texts if text)

    def wide(text: PastKeyValues | None, layer: int, name: str) -> Tensor:
        own = getattr((text or some).cache.layers[layer], name)
        own = own if text else own[:, :, :0]
        return pad(own, (0, 0, longest - own.shape[-2], 0))

    for i in range(len(some.cache.layers)):
        cache.update(*(torch.cat([wide(text, i, name) for text in texts]) for name in ("keys", "values")), i)
    none = some.real[:, :0]
    real = torch.cat([pad(own := text.real if text else none, (longest - own.shape[1], 0)) for text in texts])
    return PastKeyValues(_never_growing(cache), real)


def _aligned(cache: Cache, real: Tensor) -> PastKeyValues:
    """With all padding of a row on its left: a window over the latest tokens is one over the latest places then."""
    if not real.all():
        order, rows = real.argsort(dim=1, stable=True), torch.arange(len(real), device=real.device)[:, None]
        real = real.gather(1, order)
        for layer in cache.layers:
            layer.keys, layer.values = (
                whole.transpose(1, 2)[rows, order].transpose(1, 2) for whole in (layer.keys, layer.values)
            )
    return PastKeyValues(_never_growing(cache), real)


def _never_growing(cache: Cache) -> Cache:
    for layer in cache.layers:
        layer.update = partial(_joined, weakref.ref(layer))  # a layer that refers to itself would stay in memory
    return cache


def _joined(
    own: weakref.ref[CacheLayerMixin], keys: Tensor, values: Tensor, *_args, **_kwargs
) -> tuple[Tensor, Tensor]:
    """In place of a cache layer's `update`: what it has and these, (B, heads, T, size) each; nothing is kept."""
    layer = own()
    return torch.cat([layer.keys, keys], dim=-2), torch.cat([layer.values, values], dim=-2)
