"""The residual memory: W_m, the stored masks, and the routing that decides which mask answers a query.

Knows tensors and masks, not which tokens are a prompt, nor when to edit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memoir import tophash
from memoir.checks import inputs


@dataclass(frozen=True)
class Route:
    """Where a prompt went: the matched edit's index, or None for the base model, and the best overlap R in [0, 1]."""

    edit: int | None
    overlap: float


class ResidualMemory(nn.Module):
    """y_t = W0 a_t + W_m (M ⊙ a_t): the added term, for one Linear map of D inputs and d outputs (paper, section 3).

    weight (d, D) is W_m, float32 whatever the model's dtype, and zero at the start. `masks` (N, ⌈D/8⌉) uint8 are the
    packed masks of the stored edits, kept on the CPU where routing runs. mu (D,) centres features, permutation (D,) is
    π. The mask of a forgotten edit is cleared: with no ones in it, nothing finds it and it reads nothing.
    """

    def __init__(
        self, linear_in: int, linear_out: int, k: int, threshold: float, permutation: Tensor, device: torch.device
    ):
        super().__init__()
        if not 1 <= k <= linear_in:
            raise ValueError(
                f"k = {k} does not fit: the edited map has D = {linear_in} inputs, so 1 <= k <= {linear_in}."
            )
        self.k, self.size = k, linear_in
        self.set_threshold(threshold)
        self.register_buffer("weight", torch.zeros(linear_out, linear_in, dtype=torch.float32, device=device))
        self.register_buffer("permutation", permutation.to(device))
        self.register_buffer("mu", torch.zeros(linear_in, dtype=torch.float32, device=device))
        self.changes = 0  # how often stored masks were taken back or cleared; more of them are no change
        self._masks = np.empty((16, -(-linear_in // 8)), dtype=np.uint8)  # grows by doubling
        self.clear()

    def clear(self) -> None:
        """Take all masks out; W_m stays as it is."""
        self.n_edits, self._forgotten = 0, set()
        self.changes += 1

    @property
    def masks(self) -> np.ndarray:
        """The stored masks, packed: (N, ⌈D/8⌉) uint8, in the order of the edits."""
        return self._masks[: self.n_edits]

    @property
    def forgotten(self) -> list[int]:
        """Indices of the edits that were forgotten, in order. Every other mask has k ones."""
        return sorted(self._forgotten)

    def forget(self, edits: list[int]) -> None:
        """Clear the masks of these edits; the indices of the others stay as they are."""
        self.masks[edits] = 0
        self.changes += len(edits) > 0
        self._forgotten.update(edits)

    def set_threshold(self, threshold: float) -> None:
        """Set τ, the least overlap share that is answered from memory; ValueError outside [0, 1]."""
        self.threshold = inputs.as_share(threshold, "threshold")

    def mask_of(self, activations: Tensor, prompt_positions: Tensor) -> Tensor:
        """M(x) for each row of activations (B, T, D), features taken at prompt_positions (B, T): (B, D) bool."""
        return self.mask_of_features(tophash.prompt_feature(activations, prompt_positions))

    def mask_of_features(self, features: Tensor) -> Tensor:
        """TopHash of features (B, D) after centring by μ: (B, D) bool."""
        return tophash.top_hash(features - self.mu, self.k, self.permutation)

    def store(self, masks: np.ndarray) -> None:
        """Append packed masks (n, ⌈D/8⌉); one without ones is that of a forgotten edit."""
        self._forgotten.update((self.n_edits + np.flatnonzero(~masks.any(axis=1))).tolist())
        needed = self.n_edits + len(masks)
        if needed > len(self._masks):
            grown = np.empty((max(needed, 2 * len(self._masks)), self._masks.shape[1]), dtype=np.uint8)
            grown[: self.n_edits] = self.masks
            self._masks = grown
        self._masks[self.n_edits : needed] = masks
        self.n_edits = needed

    def route(self, masks: Tensor, allowed: np.ndarray | None = None) -> list[Route]:
        """The best stored match i* of each query mask (B, D) and whether R = |M ∧ M_i*| / k reaches τ.

        Of equal matches the latest edit wins. Forgotten edits match nothing, not even at τ = 0; nor do edits that are
        not `allowed` (B, N) bool to answer a query (by default all are).
        """
        forgotten = self.forgotten
        if self.n_edits == len(forgotten):
            return [Route(None, 0.0)] * len(masks)
        counts = tophash.overlap_counts(tophash.pack(masks), self.masks)
        counts[:, forgotten] = -1
        if allowed is not None:
            counts[~allowed] = -1
        best = self.n_edits - 1 - counts[:, ::-1].argmax(axis=1)
        found = counts[np.arange(len(best)), best]
        return [
            Route(int(i) if count >= 0 and count / self.k >= self.threshold else None, max(0, int(count)) / self.k)
            for i, count in zip(best, found, strict=True)
        ]

    def masks_of(self, routes: list[Route]) -> tuple[Tensor, Tensor]:
        """The rows that were matched, (n,) int64, and their stored masks, (n, D) bool."""
        rows = [row for row, route in enumerate(routes) if route.edit is not None]
        packed = self.masks[[routes[row].edit for row in rows]]
        device = self.weight.device
        return torch.tensor(rows, dtype=torch.long, device=device), tophash.unpack(packed, self.size).to(device)

    def forward(self, activations: Tensor, masks: Tensor) -> Tensor:
        """W_m (M ⊙ a_t) for activations (B, T, D) and one mask per row (B, D): (B, T, d) float32."""
        return (activations.float() * masks[:, None, :]) @ self.weight.T
