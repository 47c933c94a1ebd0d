"""The formula of forgetting: what it says at its ends, that its numbers are found again, and that it foretells."""

import numpy as np
import pytest

from memoir.theory import forgetting


def stream(length: int, rate: float, floor: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Exposures of a stream whose later edits add unevenly, and edits of three tokens lost by the formula's chances."""
    rng = np.random.default_rng(seed)
    added = rng.pareto(1.2, size=length) * 0.02
    exposure = np.cumsum(added[::-1])[::-1]
    return exposure, rng.binomial(3, forgetting.kept(exposure, rate, floor)) / 3


def test_kept_is_all_without_exposure_and_the_floor_after_endless_exposure():
    kept = forgetting.kept([0, 1, 2, 1e9], 0.7, 0.2)
    assert kept[0] == 1 and kept[-1] == pytest.approx(0.2) and (np.diff(kept) < 0).all()


def test_the_numbers_of_a_stream_that_obeys_are_found_again():
    pairs = [stream(n, 0.5, 0.3, n) for n in (200, 3000)]
    found = forgetting.fit(*map(np.concatenate, zip(*pairs, strict=True)))
    assert found.rate == pytest.approx(0.5, rel=0.2) and found.floor == pytest.approx(0.3, abs=0.05)
    noise = sum(((y - forgetting.kept(x, 0.5, 0.3)) ** 2).sum() for x, y in pairs)
    assert found.squares <= noise  # nothing fits better than the best


def test_a_short_stream_foretells_a_long_one():
    short, long = stream(750, 0.5, 0.3, 1), stream(7000, 0.5, 0.3, 2)
    found = forgetting.fit(*short)
    assert forgetting.kept(long[0], found.rate, found.floor).mean() == pytest.approx(long[1].mean(), abs=0.03)


def test_a_stream_that_loses_nothing_has_no_rate():
    found = forgetting.fit(np.linspace(0, 5, 50), np.ones(50))
    assert forgetting.kept(50, found.rate, found.floor) > 0.97


def test_an_answer_is_held_while_its_random_walk_stays_within_the_margin():
    held = forgetting.within([0, 1, 4, 1e12], 2.0, 0.3)
    assert held[0] == 1 and held[-1] == pytest.approx(0.3, abs=1e-4) and (np.diff(held) < 0).all()
    moved = np.random.default_rng(0).normal(size=100_000) * 2  # variance 4
    assert held[2] == pytest.approx(0.3 + 0.7 * (np.abs(moved) < 2).mean(), abs=0.01)


def test_the_margin_is_found_again_and_foretells_a_longer_stream():
    rng = np.random.default_rng(3)
    short, long = (np.linspace(n / 100, 0, n) for n in (750, 7000))
    lost = [rng.binomial(3, forgetting.within(x, 3.0, 0.4)) / 3 for x in (short, long)]
    found = forgetting.fit_margin(short, lost[0], 0.4)
    assert found.margin == pytest.approx(3.0, rel=0.1) and found.floor == 0.4
    assert found.squares <= ((lost[0] - forgetting.within(short, 3.0, 0.4)) ** 2).sum()
    assert forgetting.within(long, found.margin, found.floor).mean() == pytest.approx(lost[1].mean(), abs=0.03)


def test_nothing_measured_or_other_lengths_are_refused():
    for exposures, measured in (([], []), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="A fit needs measured shares"):
            forgetting.fit(exposures, measured)
        with pytest.raises(ValueError, match="A fit needs measured shares"):
            forgetting.fit_margin(exposures, measured, 0.3)
