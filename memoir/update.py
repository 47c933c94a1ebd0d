"""How an edit's gradients become a change of W_m: plain descent, or recursive least squares. Knows tensors only.

U_all holds the keys of all edits so far, a row per token: the masked activations u = M ⊙ a that W_m was written with.

    P  = (I + U_all^T U_all / λ)^{-1}                    (D, D), symmetric positive definite, I at the start
    ΔW = −η c G^T U P                                    G (n, d): gradients at the outputs; U (n, D): this edit's keys
    c = min(tr(U U^T) / tr(U P U^T),  2 ‖G^T U‖² / tr(G^T U P U^T G))

P shrinks a direction in which earlier keys have the energy s by λ / (λ + s), so a write moves the answers of earlier
keys the less the smaller λ is. The first c keeps the step as long as the edit's own tokens see it; by the second, no
step lowers the loss, to first order, more than twice as much as the plain one: P soon leaves nothing of a massive
activation that all prompts share, which then says nothing of the other tokens (notebook 10). P = I is plain descent,
the paper's. Both are computed in dual form (`DualUpdate`): each step's ΔW is A^T U P for some A (n, d), n ≪ D, so that
the steps change A alone and W_m is written once. This is the gain of recursive least squares, or natural gradient with
the keys' second moment as the metric of the inputs (one factor of K-FAC, Martens and Grosse 2015). Orthogonal weight
modification (Zeng, Chen, Cui and Yu 2019) learns tasks in a row so; AlphaEdit (Fang et al. 2025) takes general text.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

GRADIENT_NORM = 1.0  # the gradient of W_m is clipped to this norm
LONGEST = 2.0  # no step promises to lower the loss more than so many times what plain descent would


class Identity:
    """P = I: nothing of earlier edits is protected, and nothing is kept."""

    def through(self, keys: Tensor, mask: Tensor) -> Tensor:
        """U P (n, D) float64 for keys U (n, k), given on the k columns of a mask (D,); elsewhere they are zero."""
        wide = torch.zeros(len(keys), len(mask), dtype=torch.float64, device=keys.device)
        wide[:, mask] = keys.double()
        return wide

    def add(self, keys: Tensor, mask: Tensor, seen: Tensor | None = None) -> None:
        """Take in an edit's keys, given as to `through`; seen: what that gave for them, where it is at hand."""

    def tensors(self) -> dict[str, Tensor]:
        """The state, to be saved."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over, and out of `tensors`, what `tensors()` gave."""


class Dense:
    """P itself, (D, D) float64: 8 D² bytes, 19 MB for D = 1536. In float32 rounding makes it indefinite with time."""

    def __init__(self, size: int, ridge: float, device: torch.device):
        self.size, self.ridge = size, ridge
        self.matrix = torch.eye(size, dtype=torch.float64, device=device)

    def through(self, keys: Tensor, mask: Tensor) -> Tensor:
        """As `Identity.through`."""
        return keys.to(self.matrix) @ self.matrix[mask]

    def add(self, keys: Tensor, mask: Tensor, seen: Tensor | None = None) -> None:
        """As `Identity.add`, in place (Woodbury)."""
        keys = keys.to(self.matrix)
        seen = self.through(keys, mask) if seen is None else seen
        inner = torch.eye(len(keys), dtype=keys.dtype, device=keys.device) * self.ridge + seen[:, mask] @ keys.T
        # Z^T Z = P U^T (λ I + U P U^T)^{-1} U P: symmetric, and P − Z^T Z is positive definite
        z = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), seen, upper=False)
        self.matrix.addmm_(z.T, z, alpha=-1)

    def tensors(self) -> dict[str, Tensor]:
        """As `Identity.tensors`."""
        return {"projector": self.matrix}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """As `Identity.restore`."""
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

    def through(self, keys: Tensor, mask: Tensor) -> Tensor:
        """As `Identity.through`."""
        q, wide = self.directions, Identity().through(keys, mask)
        return wide - (wide @ q * (self.energy / (self.ridge + self.energy))) @ q.T

    def add(self, keys: Tensor, mask: Tensor, seen: Tensor | None = None) -> None:
        """As `Dense.add`, up to what the cut to r directions loses."""
        factor = torch.cat([self.directions * self.energy.sqrt(), Identity().through(keys, mask).T], dim=1)
        left, values, _ = torch.linalg.svd(factor, full_matrices=False)
        self.directions, self.energy = left[:, : self.rank].contiguous(), values[: self.rank] ** 2

    def tensors(self) -> dict[str, Tensor]:
        """As `Identity.tensors`."""
        return {"projector_directions": self.directions, "projector_energy": self.energy}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """As `Identity.restore`."""
        self.directions = tensors.pop("projector_directions").to(self.directions)
        self.energy = tensors.pop("projector_energy").to(self.energy)


Projector = Identity | Dense | LowRank


def projector(update: str, size: int, ridge: float, rank: int | None, device: torch.device) -> Projector:
    """P over D = size columns at its start: I for good under "sgd"; under "rls" dense, or by `rank` directions.

    ValueError unless λ = ridge > 0 is finite, where it has a part.
    """
    if update == "sgd":
        return Identity()
    if not (math.isfinite(ridge) and ridge > 0):
        raise ValueError(f"ridge = {ridge} is no λ: it must be a finite number > 0 (10 is a good start).")
    return Dense(size, ridge, device) if rank is None else LowRank(size, ridge, rank, device)


class DualUpdate:
    """The steps of one edit, or of several at once, and their change of W_m, in their dual form: nothing of size k × d
    is made before the end. With P = I this is clipped SGD on W_m.

    An edit e has keys U_e (n_e, D) under its own mask and gradients G_e at the outputs of W_m. These are clipped, by
    ‖G^T U‖² = Σ G ∘ (U U^T G), and then multiplied by c_e / t_e, where t_e is the traces' c. P stays what it is until
    the end; with weight decay ω a step is

        W_m ← (1 − η ω) W_m − η Σ_e t_e g_e^T U_e P,   g_e = (c_e / t_e) clip(G_e)

    With all edits' keys U (n, D), all that is kept of the steps is A (n, d): A ← (1 − η ω) A + η g, where an edit that
    takes no more steps has g_e = 0. After s steps the outputs are exactly (1 − η ω)^s U W_m^T − U P U^T t A, each
    edit's moved by all of A, and in the end W_m becomes (1 − η ω)^s W_m − A^T t U P: the decay shrinks all of W_m once
    a step, also outside the masks, as in the authors' code. P^{-1} is a sum over edits, so it takes in all
    keys at once, in whatever order their steps ended.

    Attributes: outputs, those of W_m after the steps so far, of the edits that still take steps, and steps, how many
    were taken. Inside, _seen = U P, _inside = U P U^T t, _spread = t U P, _start = U W_m^T, _sum = A and _grams are
    U_e U_e^T.
    """

    def __init__(
        self, p: Projector, weight: Tensor, edits: Sequence[tuple[Tensor, Tensor]], lr: float, weight_decay: float
    ):
        """For edits of keys (n_e, k) on the columns of a mask (D,) each, from W_m = weight (d, D) on; neither it nor P
        is changed. For n tokens of all edits it takes up to 16 n² bytes beside 12 n D."""
        self._p, self._edits, self._weight = p, edits, weight
        self._lr, self._kept = lr, 1 - lr * weight_decay
        self._seen = torch.cat([p.through(keys, mask) for keys, mask in edits])  # U P
        inside = torch.cat([self._seen[:, mask] @ keys.double().T for keys, mask in edits], dim=1)
        ends = list(itertools.accumulate(len(keys) for keys, _ in edits))
        self._places = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        self._grams = [keys.double() @ keys.double().T for keys, _ in edits]  # float64: the sum that clips may cancel
        scale = torch.cat([self._scale(i, inside) for i in range(len(edits))])
        self._inside, self._spread = (scale * inside).float(), (scale[:, None] * self._seen).float()
        self._start = torch.cat([keys.float() @ weight[:, mask].T for keys, mask in edits])
        self._sum, self.steps = torch.zeros_like(self._start), 0
        self.keep_only(range(len(edits)))

    def _scale(self, edit: int, inside: Tensor) -> Tensor:
        """t of an edit, for each of its keys: (n_e,) float64."""
        gram, own = self._grams[edit], self._places[edit]
        energy = inside[own, own].trace().clamp(min=torch.finfo(torch.float64).tiny)
        return (gram.trace() / energy).expand(len(gram))

    def keep_only(self, edits: Sequence[int]) -> None:
        """From now on the outputs are those of these edits, one after the other, and they alone take steps."""
        own = [self._places[edit] for edit in edits]
        self._live = [(self._grams[e], self._inside[at, at].double()) for e, at in zip(edits, own, strict=True)]
        self._rows = torch.cat([torch.arange(at.start, at.stop, device=self._sum.device) for at in own])
        self._own = self._inside[self._rows], self._start[self._rows]
        self._move()

    def _move(self) -> None:
        inside, start = self._own
        self.outputs = self._kept**self.steps * start - inside @ self._sum

    def step(self, gradient: Tensor) -> None:
        """One step down the gradient (n, d) of the loss with respect to `outputs` (n, d), which it moves on."""
        clipped = []
        for own, (gram, inside) in zip(gradient.split([len(gram) for gram, _ in self._live]), self._live, strict=True):
            wide = own.double()
            plain = (wide * (gram @ wide)).sum().clamp(min=0)
            promised = (wide * (inside @ wide)).sum().clamp(min=torch.finfo(torch.float64).tiny)  # with t for c
            clip = (GRADIENT_NORM / (plain.sqrt() + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
            clipped.append((clip * (LONGEST * plain / promised).clamp(max=1.0)).float() * own)
        self.steps += 1
        self._sum = self._kept * self._sum
        self._sum[self._rows] += self._lr * torch.cat(clipped)
        self._move()

    def largest(self) -> Tensor:
        """No entry that W_m is to have is larger in size than this, by Cauchy and Schwarz; float32."""
        low, high = self._weight.aminmax()
        change = self._sum.double().norm() * self._spread.double().norm()
        return (torch.maximum(-low, high) + change).float()

    def store(self) -> None:
        """Change W_m, and let P take in the keys, both in place."""
        keys, mask = self._edits[0]
        if len(self._edits) > 1:
            keys = torch.cat([Identity().through(*edit) for edit in self._edits])
            mask = torch.ones_like(mask)
        self._p.add(keys, mask, self._seen)
        self._weight.addmm_(self._sum.T, self._spread, beta=self._kept**self.steps, alpha=-1.0)
