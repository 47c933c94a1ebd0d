"""The laws of mask overlap: against enumeration, exact integers, simulation, and their promises."""

import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import kstest

from memoir.theory import overlap

PAPER = {"k": 4096, "D": 14336}


def exact_log(value: Fraction) -> float:
    """log of a fraction of huge integers."""
    return float((Decimal(value.numerator) / Decimal(value.denominator)).ln())


def exact_tail(c: int, k: int, D: int) -> Fraction:
    """P(overlap >= c) in integers, term by term: large combs are slow."""
    if c > k:
        return Fraction(0)
    low = max(c, 0, 2 * k - D)
    term, total = math.comb(k, low) * math.comb(D - k, k - low), 0
    for x in range(low, k + 1):
        total += term
        term = term * (k - x) ** 2 // ((x + 1) * (D - 2 * k + x + 1))
    return Fraction(total, math.comb(D, k))


def overlaps(masks: np.ndarray) -> list[int]:
    return [int((a & b).sum()) for a, b in itertools.combinations(masks, 2)]


def unpack(packed: np.ndarray, D: int) -> np.ndarray:
    return np.unpackbits(packed, axis=1, count=D, bitorder="little").astype(bool)


# the law of one pair


@pytest.mark.parametrize(("k", "D"), [(1, 1), (1, 4), (2, 5), (3, 6), (4, 6), (3, 8), (7, 9)])
def test_the_tail_equals_the_count_of_all_subsets(k, D):
    first = set(range(k))
    shared = [len(first & set(s)) for s in itertools.combinations(range(D), k)]
    for tau in np.linspace(0, 1, 13):
        p = sum(c / k >= tau for c in shared) / len(shared)
        value = overlap.log_tail(tau, k, D)
        assert value == pytest.approx(math.log(p), abs=1e-12) if p else value == -math.inf
    assert overlap.share_moments(k, D)[0] == pytest.approx(np.mean(shared) / k)
    assert overlap.share_moments(k, D)[1] == pytest.approx(np.std(shared) / k)
    if D > 1:
        assert overlap.share_moments(k, D)[1] == pytest.approx((1 - k / D) / math.sqrt(D - 1))


@pytest.mark.parametrize(("k", "D"), [(4096, 14336), (4096, 11008), (4096, 16384), (1024, 14336)])
def test_the_tail_agrees_with_exact_integers_far_below_the_least_float(k, D):
    for tau in (0.25, 0.3, 0.4, 0.46, 0.9, 1.0):
        exact = exact_log(exact_tail(overlap.count_at(tau, k), k, D))
        assert overlap.log_tail(tau, k, D) == pytest.approx(exact, rel=1e-12, abs=1e-10)
    none = Fraction(math.comb(D - k, k), math.comb(D, k))
    assert overlap.log_none_shared(k, D) == pytest.approx(exact_log(none), rel=1e-12)


def test_the_numbers_for_the_papers_size():
    ten = math.log(10)
    assert overlap.share_moments(**PAPER) == pytest.approx((0.285714, 0.005966), abs=1e-6)
    assert overlap.log_none_shared(**PAPER) / ten == pytest.approx(-731.815, abs=1e-3)
    assert overlap.log_tail(0.4, **PAPER) / ten == pytest.approx(-78.619, abs=1e-3)
    assert 1 - overlap.written_share(10, **PAPER) == pytest.approx(0.03457, abs=1e-5)
    assert overlap.largest_k(14336, 0.05) == 716 and overlap.largest_k(14336, 0.03) == 430


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.data())
def test_simulated_pairs_follow_the_tail(data):
    D = data.draw(st.integers(2, 300))
    k = data.draw(st.integers(1, D))
    mean, sd = overlap.share_moments(k, D)
    tau = min(max(mean + data.draw(st.floats(-3, 3)) * sd, 0.0), 1.0)
    n = 4000
    masks = unpack(overlap.random_masks(2 * n, k, D, seed=data.draw(st.integers(0, 99))), D)
    hits = ((masks[:n] & masks[n:]).sum(1) / k >= tau).sum()
    p = math.exp(overlap.log_tail(tau, k, D))
    # 40 examples at 5 standard errors, with 5 more counts for tails too rare to be Gaussian
    assert abs(hits - n * p) <= 5 * math.sqrt(n * p * (1 - p)) + 5


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1))
def test_the_least_count_agrees_with_the_routers_comparison(k, tau):
    c = overlap.count_at(tau, k)
    assert c / k >= tau and (c == 0 or (c - 1) / k < tau)
    assert overlap.count_at(c / k, k) == c  # a threshold that is itself a share


def test_a_threshold_that_floats_round_up_keeps_its_count():
    assert overlap.count_at(0.1, 30) == 3


# N masks


def test_a_false_route_never_exceeds_its_bound_beyond_chance():
    for k, D, N, tau, seed in [(20, 70, 30, 0.5, 1), (20, 70, 200, 0.5, 2), (8, 40, 50, 0.6, 3)]:
        trials = 1000
        hits = 0
        for trial in range(trials):
            masks = unpack(overlap.random_masks(N + 1, k, D, seed=seed * trials + trial), D)
            hits += ((masks[:N] & masks[N]).sum(1) / k).max() >= tau
        exact = math.exp(overlap.log_false_route(tau, k, D, N))
        slack = 4.5 * math.sqrt(exact * (1 - exact) / trials)
        assert abs(hits / trials - exact) <= slack
        assert hits / trials <= N * math.exp(overlap.log_tail(tau, k, D)) + slack


def test_any_pair_lies_between_bonferroni_and_the_union_bound():
    k, D, N, tau, trials = 20, 70, 20, 0.6, 1500
    hits = sum(max(overlaps(unpack(overlap.random_masks(N, k, D, seed=s), D))) / k >= tau for s in range(trials))
    union, poisson = (math.exp(x) for x in overlap.log_pair_bounds(tau, k, D, N))
    slack = 4.5 * math.sqrt(union / trials)
    assert union - union**2 / 2 - slack <= hits / trials <= union + slack
    assert poisson <= union and abs(hits / trials - poisson) <= slack


def test_tiny_and_certain_chances_are_right():
    tail = overlap.log_tail(0.9, **PAPER)
    assert tail < -1000 * math.log(10)  # no float holds it
    assert overlap.log_false_route(0.9, **PAPER, N=7000) == pytest.approx(tail + math.log(7000))
    assert overlap.log_pair_bounds(0.9, **PAPER, N=7000)[1] == pytest.approx(tail + math.log(math.comb(7000, 2)))
    assert overlap.log_false_route(0.0, 5, 9, 3) == 0.0
    assert overlap.log_pair_bounds(0.0, 5, 9, 3) == pytest.approx((0.0, math.log(1 - math.exp(-3))))
    assert overlap.log_pair_bounds(0.5, 5, 9, 1) == (-math.inf, -math.inf)
    assert overlap.log_none_shared(5, 9) == -math.inf


def test_the_best_share_of_a_few_masks_equals_enumeration():
    k, D, N = 2, 5, 3
    pmf = [float(exact_tail(c, k, D) - exact_tail(c + 1, k, D)) for c in range(k + 1)]
    best = {c: 0.0 for c in range(k + 1)}
    for cs in itertools.product(range(k + 1), repeat=N):
        best[max(cs)] += math.prod(pmf[c] for c in cs)
    mean = sum(c * p for c, p in best.items())
    sd = math.sqrt(sum((c - mean) ** 2 * p for c, p in best.items()))
    assert overlap.best_share(N, k, D) == pytest.approx((mean / k, sd / k))


def test_the_best_share_grows_with_the_store_and_stays_below_the_threshold():
    means = [overlap.best_share(N, **PAPER)[0] for N in (1, 10, 1000, 10**6)]
    assert means[0] == pytest.approx(4096 / 14336) and means == sorted(means) and means[-1] < 0.32


def test_simulated_edits_write_the_expected_share_of_columns():
    k, D, n = 30, 100, 5
    masks = unpack(overlap.random_masks(n * 2000, k, D, seed=4), D).reshape(2000, n, D)
    written = masks.any(1).mean(1)
    error = written.std() / math.sqrt(2000)
    assert abs(written.mean() - overlap.written_share(n, k, D)) < 4.5 * error
    assert overlap.written_share(3, 7, 7) == 1.0


def test_the_readings_cover_true_and_false_ones():
    rows = overlap.readings(**PAPER, N=7000, tau=0.4)
    assert [r["below_5_percent"] for r in rows] == [False, False, False, True, True, True]
    assert rows[0]["log10_rest"] == pytest.approx(-731.815, abs=1e-3)
    assert rows[4]["log10"] == pytest.approx(-71.230, abs=1e-3)
    assert overlap.readings(k=3, D=4, N=2, tau=1.0)[0]["value"] == 1.0
    assert overlap.readings(k=3, D=3, N=2, tau=1.0)[2]["value"] == 1.0


# counting pairs


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_pair_counts_equal_the_naive_count(N, D, block, seed):
    masks = np.random.default_rng(seed).random((N, D)) < 0.4
    naive = np.bincount(overlaps(masks) or [0], minlength=int(masks.sum(1).max()) + 1)
    naive[0] -= N == 1  # one mask has no pair
    np.testing.assert_array_equal(overlap.pair_counts(masks, block), naive)
    packed = np.packbits(masks, axis=1, bitorder="little")
    np.testing.assert_array_equal(overlap.pair_counts(packed, block), naive)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(2, 60), st.integers(0, 99))
def test_no_permutation_of_the_columns_changes_an_overlap(D, seed):
    masks = unpack(overlap.random_masks(12, (D + 2) // 3, D, seed), D)
    moved = masks[:, np.random.default_rng(seed).permutation(D)]
    assert overlaps(masks) == overlaps(moved)
    np.testing.assert_array_equal(overlap.pair_counts(masks), overlap.pair_counts(moved))


def test_random_masks_are_uniform_and_repeatable():
    k, D, N = 3, 10, 20000
    masks = unpack(overlap.random_masks(N, k, D, seed=5, block=777), D)
    assert (masks.sum(1) == k).all()
    sets, seen = np.unique(masks @ 2 ** np.arange(D), return_counts=True)
    assert len(sets) == math.comb(D, k)
    due = N / math.comb(D, k)
    chi2 = ((seen - due) ** 2 / due).sum()
    assert abs(chi2 - 119) < 4.5 * math.sqrt(2 * 119)
    np.testing.assert_array_equal(masks, unpack(overlap.random_masks(N, k, D, seed=5, block=777), D))


def test_the_fit_is_calibrated_although_pairs_are_not_independent():
    counts = [overlap.pair_counts(overlap.random_masks(150, 73, 256, seed)) for seed in range(200)]
    fits = [overlap.goodness_of_fit(counted, 73, 256) for counted in counts]
    chi2, dof, p = np.array(fits).T
    assert (dof == dof[0]).all() and dof[0] > 10
    assert abs(chi2.mean() - dof[0]) < 4.5 * math.sqrt(2 * dof[0] / len(fits))
    assert kstest(p, "uniform").pvalue > 0.001


def test_the_fit_rejects_masks_that_are_not_independent():
    masks = unpack(overlap.random_masks(150, 73, 256, seed=6), 256)
    masks[:75, :10] = True  # half the masks hold ten columns in common
    assert overlap.goodness_of_fit(overlap.pair_counts(masks)[:74], 73, 256)[2] < 1e-9


def test_effective_D_finds_D_again():
    k, D = 73, 256
    mean, sd = overlap.share_moments(k, D)
    assert overlap.effective_D(mean, sd**2, k) == pytest.approx((D, D))
    fewer = overlap.effective_D(1.2 * mean, 4 * sd**2, k)
    assert fewer[0] == pytest.approx(D / 1.2) and fewer[1] < D / 3


# bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: overlap.overlap_law(5, 4), "k <= D"),
        (lambda: overlap.overlap_law(0, 4), "k = 0"),
        (lambda: overlap.log_tail(1.1, 2, 4), "between 0 and 1"),
        (lambda: overlap.log_tail(-0.1, 2, 4), "between 0 and 1"),
        (lambda: overlap.log_tail(math.nan, 2, 4), "between 0 and 1"),
        (lambda: overlap.log_false_route(0.5, 2, 4, 0), "N = 0"),
        (lambda: overlap.log_pair_bounds(0.5, 2, 4, 0), "N = 0"),
        (lambda: overlap.best_share(0, 2, 4), "N = 0"),
        (lambda: overlap.written_share(0, 2, 4), "N = 0"),
        (lambda: overlap.readings(5, 4, 7, 0.4), "k <= D"),
        (lambda: overlap.random_masks(3, 5, 4, seed=0), "k <= D"),
        (lambda: overlap.effective_D(0.3, 0.0, 4), "variance > 0"),
        (lambda: overlap.effective_D(1.0, 0.1, 4), "mean < 1"),
        (lambda: overlap.pair_counts(np.zeros((3, 4))), "bool"),
        (lambda: overlap.goodness_of_fit([1, 2], 3, 9), "too few pairs"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value)[0].isupper() and str(caught.value).endswith(".")
