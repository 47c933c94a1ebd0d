"""How much of an edit later edits leave: a formula of three numbers, fitted on short streams. Knows numbers only.

    x_i(N) = Σ_{i < j ≤ N} n_j |c_ij|^β              exposure: edit j took n_j steps
    r_i(N) = f + (1 − f) exp(−a x_i(N))              expected share of edit i's tokens that are still right

c_ij is what edit j's write moves edit i's answer by, in units of what it moves its own by: for the paper's update the
cosine of the keys u = M ⊙ a, for rls that cosine through P (`rls.py`). So each step of a later edit is a chance a |c|^β
that an answer is lost, chances are independent (a hazard, in the words of survival analysis), and a share f of the
tokens is right in any case, by grammar or because the unedited model says them.
β turns out to be steep, probably because an answer has a margin, so that only edits with nearly the same key take it.
The sums of `capacity.py` weigh every later edit by c² (β = 2).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit


class Fit(NamedTuple):
    """a, f, and the sum of the squared errors of single edits that is left."""

    rate: float
    floor: float
    squares: float


def kept(exposure: ArrayLike, rate: float, floor: float) -> NDArray:
    """r_i for exposures x_i (n,): the expected share of an edit's tokens that are still right."""
    return floor + (1 - floor) * np.exp(-rate * np.asarray(exposure, float))


def fit(exposure: ArrayLike, measured: ArrayLike) -> Fit:
    """The least-squares a ≥ 0 and f in [0, 1] for exposures (n,) and measured shares (n,), of all lengths together.

    ValueError when nothing was measured or their lengths differ.
    """
    x, y = np.asarray(exposure, float), np.asarray(measured, float)
    if not len(y) or x.shape != y.shape:
        raise ValueError("A fit needs measured shares, and as many exposures as shares.")
    scale = max(float(x.mean()), 1e-12)

    def squares(numbers: NDArray) -> float:
        return float(((kept(x, np.exp(numbers[0]) / scale, expit(numbers[1])) - y) ** 2).sum())

    starts = [(log_rate, logit) for log_rate in (-4.0, -1.0, 1.0) for logit in (-2.0, 0.5)]
    best = min((minimize(squares, start, method="Nelder-Mead") for start in starts), key=lambda found: found.fun)
    return Fit(float(np.exp(best.x[0]) / scale), float(expit(best.x[1])), float(best.fun))
