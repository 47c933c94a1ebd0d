"""TopHash against a dense NumPy reference, and its properties for any input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from memoir import tophash

# few distinct values, so that ties are common
FEATURES = st.integers(1, 70).flatmap(
    lambda size: st.tuples(
        arrays(np.float32, (3, size), elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])),
        st.integers(1, size),
        st.integers(0, 5),
    )
)


def reference(features: np.ndarray, k: int, permutation: np.ndarray) -> np.ndarray:
    """The definition, index by index: sort by (−|f_j|, j), keep k, move j to π(j)."""
    masks = np.zeros(features.shape, dtype=bool)
    for row, values in enumerate(features):
        kept = sorted(range(len(values)), key=lambda j: (-abs(values[j]), j))[:k]
        for j in kept:
            masks[row, permutation[j]] = True
    return masks


@settings(derandomize=True, max_examples=200, deadline=None)
@given(FEATURES)
def test_agrees_with_the_definition_and_has_k_ones(case):
    features, k, seed = case
    permutation = tophash.random_permutation(features.shape[1], seed)
    masks = tophash.top_hash(torch.from_numpy(features), k, permutation)
    assert (masks.sum(dim=1) == k).all()
    np.testing.assert_array_equal(masks.numpy(), reference(features, k, permutation.numpy()))
    assert torch.equal(masks, tophash.top_hash(torch.from_numpy(features), k, permutation))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(FEATURES)
def test_overlap_is_symmetric_counts_bits_and_ignores_the_permutation(case):
    features, k, seed = case
    size = features.shape[1]
    plain = tophash.top_hash(torch.from_numpy(features), k, torch.arange(size))
    moved = tophash.top_hash(torch.from_numpy(features), k, tophash.random_permutation(size, seed))
    counts = tophash.overlap_counts(tophash.pack(plain), tophash.pack(plain))
    np.testing.assert_array_equal(counts, counts.T)
    np.testing.assert_array_equal(counts, (plain.long() @ plain.long().T).numpy())
    np.testing.assert_array_equal(counts, tophash.overlap_counts(tophash.pack(moved), tophash.pack(moved)))
    assert (np.diag(counts) == k).all()


@settings(derandomize=True, max_examples=100, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 130))))
def test_packing_round_trips_at_a_bit_each(masks):
    packed = tophash.pack(torch.from_numpy(masks))
    assert packed.shape == (len(masks), -(-masks.shape[1] // 8)) and packed.dtype == np.uint8
    np.testing.assert_array_equal(tophash.unpack(packed, masks.shape[1]).numpy(), masks)


def test_overlap_is_the_same_for_one_and_for_many():
    rng = np.random.default_rng(0)
    masks = rng.random((900, 14336)) < 0.3
    packed = tophash.pack(torch.from_numpy(masks))
    expected = masks[:9].astype(np.float32) @ masks.astype(np.float32).T
    for n in (0, 1, 3, 4, 9):
        np.testing.assert_array_equal(tophash.overlap_counts(packed[:n], packed), expected[:n])
    assert tophash.overlap_counts(packed[:2], packed[:0]).shape == (2, 0)


def test_feature_is_the_mean_over_prompt_positions_only():
    activations = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 6.0], [7.0, 7.0]]])
    positions = torch.tensor([[False, True, True, False]])
    assert torch.equal(tophash.prompt_feature(activations, positions), torch.tensor([[2.0, 4.0]]))
    with pytest.raises(ValueError, match="no tokens"):
        tophash.prompt_feature(activations, torch.zeros(1, 4, dtype=torch.bool))


@pytest.mark.parametrize("k", [0, 5])
def test_k_must_fit(k):
    with pytest.raises(ValueError, match=f"k = {k} does not fit"):
        tophash.top_hash(torch.zeros(1, 4), k, torch.arange(4))


def test_features_must_be_finite():
    with pytest.raises(ValueError, match="not finite"):
        tophash.top_hash(torch.tensor([[1.0, float("nan")]]), 1, torch.arange(2))


@pytest.mark.parametrize(
    "counts, rate, expected",
    [([3, 8, 5, 1], 0.0, 9 / 8), ([3, 8, 5, 1], 0.25, 6 / 8), ([8, 8], 0.5, 9 / 8), ([3, 1], 1.0, 0.0)],
)
def test_a_threshold_lets_no_more_in_than_it_may_though_masks_are_identical(counts, rate, expected):
    found = tophash.threshold_for(np.array(counts), 8, rate)
    assert found == expected
    assert sum(count / 8 >= found for count in counts) <= rate * len(counts)
