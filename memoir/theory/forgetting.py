"""How much of an edit later edits leave: two formulas of few numbers, fitted on short streams. Knows numbers only.

    x_i(N) = Σ_{i < j ≤ N} n_j |c_ij|^β              exposure: edit j took n_j steps
    r_i(N) = f + (1 − f) exp(−a x_i(N))              expected share of edit i's tokens that are still right: a hazard
    r_i(N) = f + (1 − f) erf(m / √(2 x_i(N)))        the same, β = 2: a margin

c_ij is what edit j's write moves edit i's answer by, in units of what it moves its own by: for the paper's update the
cosine of the keys u = M ⊙ a, for rls that cosine through P (`update.py`). A share f of the tokens is right in any
case, without the edit: the floor.
The hazard: each step of a later edit is a chance a |c|^β that an answer is lost, chances are independent (survival
analysis). β turns out to be steep under the paper's update, so single edits with nearly the same key take an answer.
The margin: under rls P has taken what keys share, and no single edit takes an answer. Many small moves in directions
that have nothing to do with each other add up to a normal one of variance x (β = 2, as in the sums of `capacity.py`),
and the answer is right as long as that stays within ±m.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import erf, expit


class Hazard(NamedTuple):
    """a, f, and the sum of the squared errors of single edits that is left."""

    rate: float
    floor: float
    squares: float


class Margin(NamedTuple):
    """m, f, and the sum of the squared errors of single edits that is left."""

    margin: float
    floor: float
    squares: float


def kept(exposure: ArrayLike, rate: float, floor: float) -> NDArray:
    """r_i of the hazard for exposures x_i (n,): the expected share of an edit's tokens that are still right."""
    return floor + (1 - floor) * np.exp(-rate * np.asarray(exposure, float))


def within(exposure: ArrayLike, margin: float, floor: float) -> NDArray:
    """r_i of the margin for exposures x_i (n,), β = 2: the expected share of an edit's tokens that are still right."""
    return floor + (1 - floor) * erf(margin / np.sqrt(2 * np.maximum(np.asarray(exposure, float), 1e-12)))


def fit(exposure: ArrayLike, measured: ArrayLike) -> Hazard:
    """The least-squares a ≥ 0 and f in [0, 1] for exposures (n,) and measured shares (n,), of all lengths together.

    ValueError when nothing was measured or their lengths differ.
    """
    x, y = _numbers(exposure, measured)
    scale = max(float(x.mean()), 1e-12)

    def squares(numbers: NDArray) -> float:
        return float(((kept(x, np.exp(numbers[0]) / scale, expit(numbers[1])) - y) ** 2).sum())

    starts = [(log_rate, logit) for log_rate in (-4.0, -1.0, 1.0) for logit in (-2.0, 0.5)]
    best = min((minimize(squares, start, method="Nelder-Mead") for start in starts), key=lambda found: found.fun)
    return Hazard(float(np.exp(best.x[0]) / scale), float(expit(best.x[1])), float(best.fun))


def fit_margin(exposure: ArrayLike, measured: ArrayLike, floor: float) -> Margin:
    """The least-squares m > 0 for exposures (n,) and measured shares (n,), with f given.

    A stream that has lost next to nothing does not tell f; another stream of the same records does.
    ValueError as in `fit`.
    """
    x, y = _numbers(exposure, measured)
    log_scale = np.log(max(float(x.mean()), 1e-12)) / 2
    best = minimize_scalar(
        lambda log_m: float(((within(x, np.exp(log_m), floor) - y) ** 2).sum()),
        bounds=(log_scale - 4, log_scale + 4), method="bounded",
    )  # fmt: skip
    return Margin(float(np.exp(best.x)), floor, float(best.fun))


def _numbers(exposure: ArrayLike, measured: ArrayLike) -> tuple[NDArray, NDArray]:
    x, y = np.asarray(exposure, float), np.asarray(measured, float)
    if not len(y) or x.shape != y.shape:
        raise ValueError("A fit needs measured shares, and as many exposures as shares.")
    return x, y
