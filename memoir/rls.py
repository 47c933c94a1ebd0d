"""Write without overwriting: recursive least squares in the residual memory. Knows tensors only.

U_all holds the keys of all edits so far, a row per token: the masked activations u = M ⊙ a that W_m was written with.

    P  = (I + U_all^T U_all / λ)^{-1}                    (D, D), symmetric positive definite, I at the start
    ΔW = −η c G^T U P,   c = tr(U U^T) / tr(U P U^T)     G (n, d): gradients at the outputs; U (n, D): this edit's keys

P shrinks a direction in which earlier keys have the energy s by λ / (λ + s), so a write moves the answers of earlier
keys the less the smaller λ is; c keeps the step as long as the edit's own tokens see it. P = I is plain descent.
This is the gain of recursive least squares, or natural gradient with the keys' second moment as the metric of the
inputs (one factor of K-FAC, Martens and Grosse 2015). Orthogonal weight modification (Zeng, Chen, Cui and Yu 2019)
projects the same way to learn tasks in a row; AlphaEdit (Fang et al. 2025) projects edits off the null space's
complement for keys of general text, fixed beforehand. Here the keys are those of the edits themselves.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


class Dense:
    """P itself, (D, D) float64: 8 D² bytes, 19 MB for D = 1536. In float32 rounding makes it indefinite with time."""

    def __init__(self, size: int, ridge: float, device: torch.device):
        self.size, self.ridge = size, ridge
        self.matrix = torch.eye(size, dtype=torch.float64, device=device)

    def rows(self, mask: Tensor) -> Tensor:
        """The rows of P under a mask (D,) with k ones: (k, D) float64."""
        return self.matrix[mask]

    def add(self, keys: Tensor, mask: Tensor) -> None:
        """Take in an edit's keys (n, k), given on the k columns of its mask; elsewhere they are zero (Woodbury)."""
        keys = keys.to(self.matrix)
        seen = keys @ self.matrix[mask]  # U P, (n, D)
        inner = torch.eye(len(keys)).to(keys) * self.ridge + seen[:, mask] @ keys.T
        # Z^T Z = P U^T (λ I + U P U^T)^{-1} U P: symmetric, and P − Z^T Z is positive definite
        z = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), seen, upper=False)
        matrix = self.matrix - z.T @ z
        self.matrix = (matrix + matrix.T) / 2  # rounding would let it drift from symmetry

    def tensors(self) -> dict[str, Tensor]:
        """The state, to be saved."""
        return {"projector": self.matrix}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over, and out of `tensors`, what `tensors()` gave."""
        self.matrix = tensors.pop("projector").to(self.matrix)


class LowRank:
    """P by the r strongest directions of the keys: I − Q diag(h / (λ + h)) Q^T, Q (D, r), 8 D r bytes.

    After each edit the second moment of the keys is cut to its r largest eigenvalues h (incremental SVD): what is cut
    is no longer protected. Exact while the keys span at most r directions.
    """

    def __init__(self, size: int, ridge: float, rank: int, device: torch.device):
        if not 1 <= rank <= size:
            raise ValueError(f"rank = {rank} does not fit: the memory has D = {size} columns, so 1 <= rank <= {size}.")
        self.size, self.ridge, self.rank = size, ridge, rank
        self.directions = torch.zeros(size, 0, dtype=torch.float64, device=device)
        self.energy = torch.zeros(0, dtype=torch.float64, device=device)

    def rows(self, mask: Tensor) -> Tensor:
        """As `Dense.rows`."""
        q = self.directions
        identity = torch.eye(self.size).to(q)[mask]
        return identity - (q[mask] * (self.energy / (self.ridge + self.energy))) @ q.T

    def add(self, keys: Tensor, mask: Tensor) -> None:
        """As `Dense.add`, up to what the cut to r directions loses."""
        wide = torch.zeros(len(keys), self.size).to(self.directions)
        wide[:, mask] = keys.to(wide)
        factor = torch.cat([self.directions * self.energy.sqrt(), wide.T], dim=1)
        left, values, _ = torch.linalg.svd(factor, full_matrices=False)
        self.directions, self.energy = left[:, : self.rank].contiguous(), values[: self.rank] ** 2

    def tensors(self) -> dict[str, Tensor]:
        """The state, to be saved."""
        return {"projector_directions": self.directions, "projector_energy": self.energy}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over, and out of `tensors`, what `tensors()` gave."""
        self.directions = tensors.pop("projector_directions").to(self.directions)
        self.energy = tensors.pop("projector_energy").to(self.energy)


def projector(size: int, ridge: float, rank: int | None, device: torch.device) -> Dense | LowRank:
    """P = I over D = size columns, dense or by `rank` directions. ValueError unless λ = ridge > 0 is finite."""
    if not (math.isfinite(ridge) and ridge > 0):
        raise ValueError(f"ridge = {ridge} is no λ: it must be a finite number > 0 (10 is a good start).")
    return Dense(size, ridge, device) if rank is None else LowRank(size, ridge, rank, device)


@dataclass
class Write:
    """One edit's way into W_m: what its gradients become on the k columns of its mask, and on all D at the end.

    rows (k, D) float32: the rows of P under the mask, times c. total (d, k): the sum of the gradients so far.
    The fit needs the masked columns alone, as its keys are zero elsewhere; the change it leaves covers all of W_m.
    """

    rows: Tensor
    inside: Tensor
    total: Tensor | float = 0.0

    @classmethod
    def through(cls, p: Dense | LowRank, keys: Tensor, mask: Tensor) -> "Write":
        """For an edit with keys (n, k) on the columns of its mask (D,)."""
        rows, keys = p.rows(mask), keys.to(torch.float64)
        scale = keys.square().sum() / ((keys @ rows[:, mask]) * keys).sum()
        rows = (rows * scale).float()
        return cls(rows, rows[:, mask])

    def project(self, gradient: Tensor) -> Tensor:
        """c G^T U P on the masked columns for a gradient G^T U (d, k), which is counted."""
        self.total = self.total + gradient
        return gradient @ self.inside

    def change(self, lr: float) -> Tensor:
        """ΔW (d, D): all steps together."""
        return -lr * (self.total @ self.rows)
