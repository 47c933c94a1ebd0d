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


def test_nothing_measured_or_other_lengths_are_refused():
    for exposures, measured in (([], []), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="A fit needs measured shares"):
            forgetting.fit(exposures, measured)
