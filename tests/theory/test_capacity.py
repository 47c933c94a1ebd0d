"""Interference and capacity: the model against toy memories, the bound, and their limits."""

import math

import numpy as np
import pytest

from memoir.theory import capacity
from memoir.theory.overlap import random_masks


def memory(N, k, D, d, common, seed):
    """A linear memory written edit by edit (delta rule): targets, answers, masked unit keys."""
    rng = np.random.default_rng(seed)
    keys = math.sqrt(1 - common) * rng.standard_normal((N, D))
    keys += math.sqrt(common) * rng.choice([-1, 1], D)
    keys *= np.unpackbits(random_masks(N, k, D, seed), axis=1, count=D, bitorder="little").astype(bool)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    targets = rng.standard_normal((N, d))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    W, writes = np.zeros((d, D)), []
    for u, t in zip(keys, targets, strict=True):
        writes.append(t - W @ u)
        W += np.outer(writes[-1], u)
    return targets, keys @ W.T, keys, np.array(writes)


@pytest.mark.parametrize("common", [0.0, 0.3, 0.6])
def test_the_capacity_model_predicts_a_toy_memory(common):
    k, D, d, N, margin = 110, 384, 48, 288, 0.5
    right, signal, beta, dims = [], [], [], []
    for seed in range(3):
        targets, answers, keys, _ = memory(N, k, D, d, common, seed)
        b, dim = capacity.cosine_moments(keys)
        beta.append(b), dims.append(dim)
        rival = np.random.default_rng(seed + 100).standard_normal((N, d))
        rival -= (rival * targets).sum(1, keepdims=True) * targets
        rival /= np.linalg.norm(rival, axis=1, keepdims=True)
        own = (answers * targets).sum(1)
        signal.append(own)
        right.append(own > 1 - margin + (answers * rival).sum(1))
    b, dim = max(np.mean(beta), 0), np.mean(dims)
    assert b == pytest.approx(common * k / D, abs=0.02)  # the mask shrinks what keys share by k/D
    assert dim == pytest.approx(D, rel=0.05)  # and leaves D' = D whatever k is
    assert np.mean(right) == pytest.approx(capacity.reliability(N, margin, d, dim, beta=b), abs=0.06)
    assert np.mean(signal) == pytest.approx(capacity.retention(N, dim, b)[0].mean(), abs=0.03)


def test_the_drift_bound_holds_and_the_random_walk_is_near():
    _, _, keys, writes = memory(200, 60, 200, 32, 0.3, seed=1)
    ratios = []
    for i in range(0, 150, 10):
        cosines = np.abs(keys[i + 1 :] @ keys[i])
        drift = np.linalg.norm(writes[i + 1 :].T @ (keys[i + 1 :] @ keys[i]))
        bound, walk = capacity.drift_bounds(np.linalg.norm(writes[i + 1 :], axis=1), cosines)
        assert drift <= bound * (1 + 1e-12)
        ratios.append(drift / walk)
    assert 0.5 < np.mean(ratios) < 1.5


def test_capacity_is_the_last_size_that_holds_its_level():
    args = {"margin": [0.4, 0.6], "d": 64, "dims": 512, "beta": 0.1, "decay": 1e-4}
    N = capacity.capacity(0.9, **args)
    assert capacity.reliability(N, **args) >= 0.9 > capacity.reliability(N + 1, **args)
    assert capacity.capacity(0.9, **(args | {"dims": 1024})) > N
    assert capacity.capacity(0.9, **(args | {"beta": 0.3})) < N
    assert capacity.capacity(0.9, **(args | {"rivals": 50})) < N
    wide = capacity.capacity(0.95, 0.5, d=1e6, dims=1536)
    assert wide == pytest.approx(capacity.lifetime(0.5, 1536) / 0.95, rel=0.01)


def test_writes_that_stop_at_their_margin_drift_as_a_random_walk():
    k, D, d, N, margin, right = 110, 384, 24, 1000, 0.5, []
    for seed in range(3):
        targets, _, keys, _ = memory(N, k, D, d, 0.3, seed)
        rival = np.random.default_rng(seed + 100).standard_normal((N, d))
        rival -= (rival * targets).sum(1, keepdims=True) * targets
        rival /= np.linalg.norm(rival, axis=1, keepdims=True)
        W = np.zeros((d, D))
        for u, way in zip(keys, targets - rival, strict=True):  # lift the lead from -1/2 to 1/2
            W += np.outer(way * max(1 - way @ W @ u, 0) / 2, u)
        right.append(((keys @ W.T) * (targets - rival)).sum(1) > 1 - margin)
    beta, dims = capacity.cosine_moments(keys)
    walk = capacity.reliability(N, margin, d, dims, beta=beta, cancel=0.0, size=0.5)
    assert np.mean(right) == pytest.approx(walk, abs=0.06)
    assert np.mean(right) > capacity.reliability(N, margin, d, dims, beta=beta) + 0.3
    oldest = capacity.walk_capacity(0.9, margin, d, dims, beta)
    noise = capacity.retention(int(oldest) + 1, dims, beta, cancel=0.0, size=0.5)[1][0]
    assert margin / math.sqrt(2 * noise / d) == pytest.approx(1.2816, rel=0.01)


def test_retention_starts_whole_and_decays():
    signal, noise = capacity.retention(300, 500, beta=0.1, decay=1e-3)
    assert signal[-1] == pytest.approx(1.0) and noise[-1] == pytest.approx(0.0)
    assert (np.diff(signal) > 0).all() and (noise >= 0).all()


# bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: capacity.retention(0, 10), "N = 0"),
        (lambda: capacity.retention(5, 10, beta=1.0), "beta"),
        (lambda: capacity.retention(5, 10, cancel=2.0), "cancel"),
        (lambda: capacity.walk_capacity(0.5, 0.5, d=64, dims=64), "1/2"),
        (lambda: capacity.capacity(0.1, 1.0, d=64, dims=64), "2\\^20"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value)[0].isupper() and str(caught.value).endswith(".")
