"""Interference and capacity: what later edits do to an answer, and how many fit. Knows numbers only.

The model of a memory and its assumptions stand at `retention`; where it breaks, notebook 02 shows.
"""

import bisect
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtr, ndtri, roots_hermitenorm


def cosine_moments(u: NDArray) -> tuple[float, float]:
    """(beta, D') of masked activations u (n, D), a row per edit: what capacity needs, measured.
    beta: mean cosine of two rows. D' = (tr C)^2 / tr C^2, C the covariance of the unit rows, from
    pairs of different rows (n >> sqrt(D')). Independent even features give D' = D whatever k is."""
    unit = u / np.linalg.norm(u, axis=1, keepdims=True)
    pairs, rest = np.triu_indices(len(u), 1), unit - unit.mean(0)
    gram, dot = rest @ rest.T, unit @ unit.T
    return float(dot[pairs].mean()), float(np.diag(gram).mean() ** 2 / (gram[pairs] ** 2).mean())


def drift_bounds(norms: ArrayLike, projections: ArrayLike) -> tuple[float, float]:
    """(bound, random-walk value) of ||sum_j ΔW_j u_i|| from ||ΔW_j||_F (N,) and ||P_j u_i|| (N,).
    P_j projects on the row space of ΔW_j, in span{u_j}; one row: |<u_j, u_i>| / ||u_j||. The
    bound always holds, the second value assumes unrelated directions."""
    terms = np.asarray(norms, float) * np.asarray(projections, float)
    return float(terms.sum()), float(np.linalg.norm(terms))


def retention(
    N: int, dims: float, beta: float = 0.0, decay: float = 0.0, cancel: float = 1.0, size: float = 1.0
) -> tuple:
    """(signal, noise) of edit i's answer W u_i after N edits, (N,) each, oldest first.
    As written the signal is 1; noise is the squared length of the rest. Model: edit i adds
    (t_i - cancel W u_i) u_i^T, t_i of squared length `size` and unrelated; unit u_i has energy
    beta along one direction common to all, the rest even over D' = dims; W shrinks by `decay`
    per edit. cancel 1: exact writes (delta rule); 0: random walk, for writes that only lift the
    target over its rival. First order in 1/D' (mean-square analysis of LMS). If unmasked u share
    the energy s, independent masks leave beta = s k/D."""
    if N < 1:
        raise ValueError(f"At least one edit is needed, but N = {N}.")
    if not (dims >= 1 and 0 <= beta < 1 and 0 <= decay < 1 and 0 <= cancel <= 1 and size > 0):
        raise ValueError(
            "Retention needs dims >= 1, size > 0, cancel in [0, 1], beta and decay in "
            f"[0, 1), but they are {(dims, size, cancel, beta, decay)}."
        )
    share = np.array([beta, 1 - beta])  # energy of u: common direction, all others together
    lam = share / [1, dims]  # the same per direction
    keep = (1 - decay) * (1 - cancel * lam)  # what one later edit leaves
    (k0, k1), (l0, l1), f0, f1 = keep**2, lam, 0.0, 0.0
    fill = np.empty((N, 2))  # E ||W e||^2 of a unit direction e of either kind, before edit i
    for i in range(N):
        fill[i] = f0, f1
        write = size + cancel**2 * (1 - beta) * f1
        f0, f1 = k0 * f0 + l0 * write, k1 * f1 + l1 * (write + cancel**2 * beta * f0)
    left = keep ** np.arange(N - 1, -1, -1)[:, None]
    signal = left @ share
    push = (size + cancel**2 * (fill * share) @ [[0, 1], [1, 1]]) * left**2  # E ||write||^2, left
    later = np.cumsum(push[::-1], 0)[::-1] - push
    back = (fill * (left - signal[:, None]) ** 2) @ share  # what edit i had cancelled returns
    return signal, later @ (share * lam) + cancel**2 * back


def reliability(N: int, margin: ArrayLike, d: float, dims: float, rivals: int = 1, **how) -> float:
    """Expected share of N edits still answered right after the last; `how` goes to retention.
    margin, one or many: logit lead after the edit / what it added (0: failed, 1: no gap). Right if
    signal - (1 - margin) beats Gaussian noise (variance noise / d per logit) of all the rivals."""
    signal, noise = retention(N, dims, **how)
    pick = np.unique(np.linspace(0, N - 1, min(N, 400)).astype(int))
    lead = signal[pick] - 1 + np.atleast_1d(margin)[:, None]
    x, weight = roots_hermitenorm(40)
    z = (lead / np.sqrt(np.maximum(noise[pick], 1e-30) / d))[..., None] + x
    return float((np.exp(rivals * log_ndtr(z)) @ weight).mean() / weight.sum())


def lifetime(margin: float, dims: float, beta: float = 0.0, decay: float = 0.0) -> float:
    """log((1-beta) / (1-margin)) / (decay + (1-beta)/dims): the age at which an answer has faded
    under exact writes. Large d: noise is negligible and about lifetime / level edits fit."""
    faded = math.log((1 - beta) / (1 - margin)) if margin < 1 else math.inf
    return max(faded, 0.0) / (decay + (1 - beta) / dims)


def walk_capacity(level: float, margin: float, d: float, dims: float, beta: float = 0.0, size: float = 0.5) -> float:
    """d margin^2 / (2 size (beta^2 + (1-beta)^2/dims) z^2), z the normal quantile of `level` > 1/2:
    later edits after which an old answer still holds with that chance, for cancel = decay = 0."""
    if not 0.5 < level < 1.0:
        raise ValueError(f"The level must lie strictly between 1/2 and 1, but it is {level}.")
    rho2 = beta**2 + (1 - beta) ** 2 / dims
    return float(d * (margin / ndtri(level)) ** 2 / (2 * size * rho2))


def capacity(level: float, *args, **kwargs) -> int:
    """The largest N with reliability(N, *args, **kwargs) >= level; ValueError above 2^20."""
    below = lambda N: reliability(N, *args, **kwargs) < level  # noqa: E731
    top = next((2**i for i in range(21) if below(2**i)), 0)
    if not top:
        raise ValueError(f"Reliability stays at {level} or above for more than 2^20 edits.")
    return bisect.bisect_left(range(1, top + 1), True, key=below)


def margins(before: ArrayLike, after: ArrayLike) -> NDArray:
    """Margin of edits from their measured leads: lead after / what the edit added, (n,) in [0, 1].

    lead: logit of the answer minus that of its best rival. 0: still wrong. 1: right with no gap to lose, as where the
    answer led before. The `margin` of `reliability`.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    added = np.maximum(after - before, 1e-9)
    return np.where(after > 0, np.minimum(after / added, 1.0), 0.0)


def walk_rate(after: ArrayLike, end: ArrayLike) -> float:
    """Root mean square change of a lead per later edit: sqrt(mean (end - after)^2 / later edits), oldest edit first."""
    after, end = np.asarray(after, float), np.asarray(end, float)
    later = np.arange(len(after) - 1, 0, -1)
    return float(np.sqrt(np.mean((end - after)[:-1] ** 2 / later)))


def walk_reliability(N: int, after: ArrayLike, rate: float) -> float:
    """Expected share of N edits still answered, if leads drift as Gaussian walks of `rate` per edit from `after`.

    An extrapolation of a measured short stream: no model of W_m in it, only that steps are unrelated and alike.
    """
    age = np.unique(np.linspace(0, N - 1, min(N, 400)).astype(int))[:, None]
    lead = np.asarray(after, float)[None]
    return float(ndtr(lead / np.maximum(rate * np.sqrt(age), 1e-12)).mean())
