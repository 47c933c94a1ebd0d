"""Laws and bounds of mask overlap. Knows numbers only: no models, no tokenizers; `capacity.py` goes on to edits.

Symbols as in the paper (section 3): k ones among D columns, N stored masks, a prompt routed to a
mask that shares at least tau of its k columns. Share = overlap / k. Logarithms are natural.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chisquare, hypergeom, mannwhitneyu


def _check(k: int = 1, D: int | None = None, N: int = 1, tau: float = 0.0) -> None:
    if k < 1 or (D is not None and k > D):
        raise ValueError(f"A mask needs 1 <= k <= D columns, but k = {k} and D = {D}.")
    if N < 1:
        raise ValueError(f"At least one mask or edit is needed, but N = {N}.")
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"A share lies between 0 and 1, but {tau} was given.")


def overlap_law(k: int, D: int):
    """Law of |M ∧ M'|, independent uniform k-subsets of D: hypergeometric, exact, frozen."""
    _check(k, D)
    return hypergeom(D, k, k)


def share_moments(k: int, D: int) -> tuple[float, float]:
    """Mean k/D and standard deviation (1 - k/D) / sqrt(D - 1) of the share of a pair. Exact."""
    _check(k, D)
    return k / D, (1 - k / D) / math.sqrt(max(D - 1, 1))  # scipy's: nan at k = D


def count_at(tau: float, k: int) -> int:
    """The least overlap c with c / k >= tau, by the router's own floating-point comparison."""
    _check(k, tau=tau)
    c = math.ceil(tau * k)  # 0.1 * 30 is above 3 in floats: look at the neighbours
    return next(x for x in (c - 1, c, c + 1) if x >= 0 and x / k >= tau)


def log_tail(tau: float, k: int, D: int) -> float:
    """log P(share of a pair >= tau); absolute error below 1e-10, no underflow at 10^-3700."""
    return min(0.0, float(overlap_law(k, D).logsf(count_at(tau, k) - 1)))


def log_none_shared(k: int, D: int) -> float:
    """log P(two masks share no column) = log C(D-k, k) / C(D, k); -inf if 2k > D."""
    return float(overlap_law(k, D).logpmf(0))


def log_false_route(tau: float, k: int, D: int, N: int) -> float:
    """log P(a new independent prompt reaches tau with any of N masks). Exact for uniform masks:
    1 - (1-p)^N <= N p, as the N overlaps are independent given the prompt's mask."""
    _check(k, D, N, tau)
    log_p = log_tail(tau, k, D)
    p = math.exp(log_p)
    if N * p < 1e-12:  # the next term is N p / 2, below rounding; p itself may have underflowed
        return log_p + math.log(N)
    return math.log(-math.expm1(N * math.log1p(-p))) if p < 1.0 else 0.0


def log_pair_bounds(tau: float, k: int, D: int, N: int) -> tuple[float, float]:
    """log of (union bound, Poisson value) of P(any pair of N masks reaches tau): lam = C(N,2) p
    and 1 - exp(-lam). Pairs are pairwise independent, so the truth is at least lam - lam^2/2."""
    _check(k, D, N, tau)
    log_lam = log_tail(tau, k, D) + (math.log(math.comb(N, 2)) if N > 1 else -math.inf)
    if log_lam < -30.0:
        return log_lam, log_lam
    return min(0.0, log_lam), math.log(-math.expm1(-math.exp(min(log_lam, 700.0))))


def best_share(N: int, k: int, D: int) -> tuple[float, float]:
    """Mean and s.d. of the best share of an irrelevant prompt among N independent masks. Exact:
    sums P(max >= c) = 1 - F(c-1)^N. (N = all pairs: the largest of a set, nearly.)"""
    _check(k, D, N)
    pmf = overlap_law(k, D).pmf(np.arange(k + 1))
    sf = np.minimum(np.cumsum(pmf[::-1])[::-1][1:], 1.0)  # P(overlap >= c), c = 1..k
    with np.errstate(divide="ignore"):
        reach = -np.expm1(N * np.log1p(-sf))
    mean, second = reach.sum(), ((2 * np.arange(1, k + 1) - 1) * reach).sum()
    return float(mean / k), math.sqrt(max(second - mean**2, 0.0)) / k


def written_share(n: int, k: int, D: int) -> float:
    """Expected share of the D columns written by n edits: 1 - (1 - k/D)^n. Exact."""
    _check(k, D, n)
    return -math.expm1(n * math.log1p(-k / D)) if k < D else 1.0


def largest_k(D: int, share: float) -> int:
    """The largest k with mean share k/D strictly below `share`; 0 if there is none."""
    _check(D=D, tau=share)
    return max(math.ceil(share * D) - 1, 0)


def readings(k: int, D: int, N: int, tau: float) -> list[dict]:
    """Readings of "the probability of parameter overlap over N edits is below 5 %", a dict each.
    log10_rest: log10 of 1 - value where that says more. value: 0.0 on underflow."""
    rest, unwritten = log_none_shared(k, D), N * math.log1p(-k / D) if k < D else -math.inf
    rows = [
        ("two masks share at least one column", math.log(-math.expm1(rest)), rest),
        ("share of a mask that another mask has too, mean", math.log(k / D), None),
        (f"columns written after {N} edits", math.log(written_share(N, k, D)), unwritten),
        (f"two masks share at least {tau:g}", log_tail(tau, k, D), None),
        (f"any pair of {N} masks shares at least {tau:g} (union bound)", log_pair_bounds(tau, k, D, N)[0], None),
        (f"a new prompt is routed to one of {N} edits", log_false_route(tau, k, D, N), None),
    ]
    return [
        {
            "reading": text,
            "log10": log / math.log(10),
            "value": math.exp(log),
            "log10_rest": None if left is None else left / math.log(10),
            "below_5_percent": log < math.log(0.05),
        }
        for text, log, left in rows
    ]


def effective_D(mean: float, variance: float, k: int) -> tuple[float, float]:
    """D' by moment matching: k/D' = mean of the share, and (1 - mean)^2 / (D' - 1) = its variance
    (at the observed mean, so that a solution exists). Uniform independent masks: both are D."""
    _check(k)
    if not (0.0 < mean < 1.0 and variance > 0.0):
        raise ValueError(f"D' needs 0 < mean < 1 and variance > 0, not {mean}, {variance}.")
    return k / mean, 1.0 + (1.0 - mean) ** 2 / variance


def random_masks(N: int, k: int, D: int, seed: int, block: int = 1000) -> NDArray[np.uint8]:
    """N independent uniform k-subsets (exact shuffles), packed (N, ceil(D/8)), little bit order."""
    _check(k, D, N)
    rng, packed = np.random.default_rng(seed), []
    for start in range(0, N, block):
        rows = np.zeros((min(block, N - start), D), bool)
        rows[:, :k] = True
        packed.append(np.packbits(rng.permuted(rows, axis=1), axis=1, bitorder="little"))
    return np.concatenate(packed)


def pair_counts(masks: NDArray, block: int = 1000) -> NDArray[np.int64]:
    """h[c] = number of pairs i < j with |M_i ∧ M_j| = c, exact; masks bool (N, D) or packed uint8.
    Float32 products of 0/1 blocks are exact below 2^24 columns and use every core."""
    masks = np.asarray(masks)
    if masks.ndim != 2 or masks.dtype not in (np.bool_, np.uint8) or not masks.size:
        raise ValueError(
            "Masks must be a bool (N, D) or a packed uint8 (N, bytes) array, "
            f"but they are {masks.dtype} of shape {masks.shape}."
        )
    packed = np.packbits(masks, axis=1) if masks.dtype == np.bool_ else masks
    counts = np.zeros(int(np.bitwise_count(packed).sum(1, dtype=np.int64).max()) + 1, np.int64)
    for i in range(0, len(packed), block):
        a = np.unpackbits(packed[i : i + block], axis=1).astype(np.float32)
        for j in range(i, len(packed), block):
            b = a if j == i else np.unpackbits(packed[j : j + block], axis=1).astype(np.float32)
            found = (a @ b.T)[np.triu_indices(len(a), 1)] if j == i else (a @ b.T).ravel()
            counts += np.bincount(found.astype(np.int64), minlength=len(counts))
    return counts


def goodness_of_fit(counts: ArrayLike, k: int, D: int, least: float = 20.0):
    """Chi-square of a pair histogram against the law, tails pooled to `least`: (value, dof, p).
    Uniform masks' pairs are pairwise independent: mean dof exactly, variance 2 dof nearly."""
    observed = np.pad(np.asarray(counts, float), (0, k + 1 - len(np.asarray(counts))))
    expected = observed.sum() * overlap_law(k, D).pmf(np.arange(k + 1))
    inside = np.flatnonzero(expected >= least)
    if len(inside) < 2:
        raise ValueError(f"There are too few pairs for two bins of {least:g} expected pairs.")
    cuts = np.r_[0, inside[1:]]  # a unimodal law: the bins inside are contiguous
    seen, due = (np.add.reduceat(x, cuts) for x in (observed, expected))
    test = chisquare(seen, due * seen.sum() / due.sum())
    return float(test.statistic), len(cuts) - 1, float(test.pvalue)


def simulate(N: int, k: int, D: int, seed: int) -> tuple[dict, NDArray[np.int64]]:
    """N uniform masks, all pairs counted, beside what the law says: (numbers, histogram of overlaps)."""
    counts = pair_counts(random_masks(N, k, D, seed))
    share = np.arange(len(counts)) / k
    mean = float(counts @ share / counts.sum())
    most, spread = best_share(math.comb(N, 2), k, D)
    chi2, dof, p = goodness_of_fit(counts[: k + 1], k, D)
    return {
        "N": N, "k": k, "D": D, "seed": seed, "pairs": int(counts.sum()),
        "mean": mean, "law_mean": k / D,
        "sd": float(counts @ (share - mean) ** 2 / counts.sum()) ** 0.5, "law_sd": share_moments(k, D)[1],
        "least": float(share[counts > 0][0]), "most": float(share[counts > 0][-1]),
        "law_most": most, "law_most_sd": spread, "chi2": chi2, "dof": dof, "p": p,
    }, counts  # fmt: skip


def survival(histogram: ArrayLike, k: int) -> tuple[NDArray, NDArray]:
    """(share, part of the pairs with at least that share) of a pair histogram, where any pair is left."""
    counts = np.asarray(histogram, float)
    above = np.cumsum(counts[::-1])[::-1] / counts.sum()
    return np.flatnonzero(above) / k, above[above > 0]


def active_readings(k: int, D: int, d: int, parameters: float) -> list[dict]:
    """Readings of "about 3 % of the parameters are active per edit"; W_m is d x D, the model has `parameters`."""
    rows = [
        ("share of the columns of W_m that an edit may write, k/D", k / D),
        ("numbers of W_m that an edit may write, as a share of the model", k * d / parameters),
        ("all numbers of W_m, as a share of the model", D * d / parameters),
    ]
    return [{"reading": text, "value": value, "about_3_percent": round(100 * value) == 3} for text, value in rows]


def describe(histogram: NDArray, k: int, tau: float) -> dict:
    """A pair histogram in numbers: pairs, mean and s.d. of the share, the share of pairs at or above τ, both D'."""
    share = np.arange(len(histogram)) / k
    weight = histogram / histogram.sum()
    mean = float(weight @ share)
    variance = float(weight @ (share - mean) ** 2)
    dims = effective_D(mean, variance, k) if variance > 0 and mean < 1 else (np.nan, np.nan)
    return {
        "pairs": int(histogram.sum()), "mean": mean, "sd": variance**0.5,
        "at_tau": float(weight[count_at(tau, k) :].sum()), "D_mean": dims[0], "D_variance": dims[1],
    }  # fmt: skip


def roc(right: NDArray, wrong: NDArray) -> tuple[NDArray, float]:
    """(tau, true rate, false rate) at every threshold, (n, 3), and the area under the curve.

    right, wrong: shares; a prompt passes when its share >= tau. Area: the chance that a right one has
    the larger share, ties counted half.
    """
    taus = np.unique(np.r_[right, wrong, 1.01])[::-1]
    rates = [(tau, (right >= tau).mean(), (wrong >= tau).mean()) for tau in taus]
    area = mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong))
    return np.array(rates), float(area)
