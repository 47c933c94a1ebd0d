"""TopHash: from a prompt's features to a sparse binary mask, and the overlap of masks.

Knows tensors, and nothing of models, tokenizers or texts.
Symbols as in the paper (section 3): D features, k ones in a mask, π a fixed random permutation.
"""

import numkong
import numpy as np
import torch
from torch import Tensor

TILE = 4  # queries that one pass over the stored masks serves together


def prompt_feature(activations: Tensor, prompt_positions: Tensor) -> Tensor:
    """Mean of the activations over the prompt's own tokens: f(x) before centring.

    activations (B, T, D), prompt_positions (B, T) bool, True at prompt tokens. Returns (B, D) float32.
    The sum runs over the whole row, so padding on either side and other rows change nothing.
    """
    weights = prompt_positions.to(activations.device, torch.float32)
    counts = weights.sum(dim=1, keepdim=True)
    if (counts == 0).any():
        raise ValueError("A prompt has no tokens: every row needs at least one prompt position.")
    return torch.einsum("btd,bt->bd", activations.float(), weights) / counts


def top_hash(features: Tensor, k: int, permutation: Tensor) -> Tensor:
    """TopHash (paper, section 3.1): keep the k largest |f_j|, then move each index j to π(j).

    features (B, D) centred features, permutation (D,) int64. Returns masks (B, D) bool, k ones a row.
    Ties go to the lower index j, always. NaN features and k outside 1..D are a ValueError.
    """
    size = features.shape[-1]
    if not 1 <= k <= size:
        raise ValueError(f"k = {k} does not fit: a mask over D = {size} features needs 1 <= k <= {size}.")
    if not torch.isfinite(features).all():
        raise ValueError("A prompt feature is not finite, so its largest entries are undefined.")
    order = torch.sort(features.abs(), dim=-1, descending=True, stable=True).indices
    masks = torch.zeros(features.shape, dtype=torch.bool, device=features.device)
    return masks.scatter_(-1, permutation.to(features.device)[order[..., :k]], True)


def random_permutation(size: int, seed: int) -> Tensor:
    """The fixed permutation π of 0..D-1 as (D,) int64, the same for a seed on every machine."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(size))


def pack(masks: Tensor) -> np.ndarray:
    """Masks (B, D) bool to bits: (B, ⌈D/8⌉) uint8, feature j in bit j mod 8 of byte j // 8."""
    return np.packbits(masks.cpu().numpy(), axis=-1, bitorder="little")


def unpack(packed: np.ndarray, size: int) -> Tensor:
    """The inverse of `pack` for D = size: (B, D) bool on the CPU."""
    return torch.from_numpy(np.unpackbits(packed, axis=-1, count=size, bitorder="little")).bool()


def overlap_counts(queries: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """|M ∧ M_i| for packed masks queries (B, bytes) and stored (N, bytes): counts (B, N) int64.

    For masks with k ones each, k minus this is half their Hamming distance.
    """
    if not len(queries) or not len(stored):
        return np.zeros((len(queries), len(stored)), dtype=np.int64)
    if len(queries) < TILE:
        counts = numkong.cdist(queries, stored, "dot", dtype="uint1")
    else:  # the queries are laid out anew, not the stored masks: growing by an edit costs nothing
        counts = np.asarray(numkong.dots_packed(stored, numkong.dots_pack(queries, dtype="uint1"))).T
    return np.asarray(counts).astype(np.int64)


def threshold_for(counts: np.ndarray, k: int, false_positive_rate: float) -> float:
    """τ by the rule of `Memoir.calibrate`, from the best overlaps (counts) of irrelevant prompts.

    Above 1, which no question reaches, where more prompts than that have the very mask of an edit.
    """
    ordered = np.sort(counts)[::-1]
    allowed = int(false_positive_rate * len(ordered))
    return (int(ordered[allowed]) + 1) / k if allowed < len(ordered) else 0.0
