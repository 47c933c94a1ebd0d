"""Routing against the definition, whatever was stored, forgotten or not allowed."""

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from memoir import tophash
from memoir.memory import ResidualMemory, Route

SIZES = st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size)))


@st.composite
def histories(draw):
    """D, k, τ, queries, and what happens in turn: masks to be stored, or the index of an edit to be forgotten."""
    size, k = draw(SIZES)
    few = st.sampled_from([draw(st.permutations(range(size)))[:k] for _ in range(3)])  # so that ties are common
    mask = st.one_of(few, st.permutations(range(size)).map(lambda order: order[:k]))
    steps = draw(st.lists(st.one_of(st.lists(mask, min_size=1, max_size=5), st.integers(0, 20)), max_size=8))
    return size, k, draw(st.sampled_from([0.0, 0.3, 1.0])), draw(st.lists(mask, min_size=1, max_size=9)), steps


def bits(masks, size: int) -> torch.Tensor:
    found = torch.zeros(len(masks), size, dtype=torch.bool)
    for row, ones in enumerate(masks):
        found[row, list(ones)] = True
    return found


def by_hand(query, stored: list, allowed, k: int, threshold: float) -> Route:
    """The definition on sets: the largest overlap, of equal ones the latest; None stands for a forgotten edit."""
    best, found = -1, None
    for i, mask in enumerate(stored):
        if mask is not None and allowed[i] and len(set(mask) & set(query)) >= best:
            best, found = len(set(mask) & set(query)), i
    return Route(found if found is not None and best / k >= threshold else None, max(best, 0) / k)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(histories(), st.integers(0, 2**32 - 1))
def test_routes_are_those_of_the_definition(history, seed):
    size, k, threshold, queries, steps = history
    memory = ResidualMemory(size, 2, k, threshold, torch.arange(size), torch.device("cpu"))
    stored: list = []
    for step in steps:
        if isinstance(step, list):
            memory.store(tophash.pack(bits(step, size)))
            stored += step
        elif step < len(stored):
            memory.forget([step])
            stored[step] = None
        assert memory.forgotten == [i for i, mask in enumerate(stored) if mask is None]
        allowed = np.random.default_rng(seed).random((len(queries), len(stored))) < 0.7
        for rows in (queries, queries[:1]):  # one question alone goes another way
            found = memory.route(bits(rows, size))
            assert found == [by_hand(query, stored, [True] * len(stored), k, threshold) for query in rows]
            found = memory.route(bits(rows, size), allowed[: len(rows)])
            assert found == [by_hand(query, stored, allowed[i], k, threshold) for i, query in enumerate(rows)]
    again = ResidualMemory(size, 2, k, threshold, torch.arange(size), torch.device("cpu"))
    again.store(memory.masks)  # as when a saved memory is loaded
    assert again.forgotten == memory.forgotten and again.route(bits(queries, size)) == memory.route(bits(queries, size))
    again.clear()
    assert again.forgotten == [] and again.route(bits(queries, size)) == [Route(None, 0.0)] * len(queries)
