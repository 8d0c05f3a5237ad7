"""Figures of synthetic times, known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from queryseg.benchmarking.timing_statistics import Durations, paired_ratio, scaling_exponent


def test_percentiles():
    """0 … 100 ms in any order: the percentiles are themselves; the quartiles 25 and 75 are 1.0 of the median apart."""
    seconds = np.random.default_rng(0).permutation(101) / 1000
    found = Durations.of(seconds.tolist())
    assert (found.p50, found.p95, found.p99) == pytest.approx((0.050, 0.095, 0.099))
    assert found.spread == pytest.approx(1.0)
    assert found.to_json()["p95_ms"] == pytest.approx(95.0)


def test_paired_ratio_is_of_rounds():
    """A machine that slows down fivefold over the rounds, unevenly: the ratio within each round is 1.5 throughout, so
    its spread is nothing; shuffled rounds, which a ratio of medians equals, do not have this."""
    slowness = np.geomspace(1, 5, 31)
    reference, seconds = slowness.tolist(), (1.5 * slowness).tolist()
    found = paired_ratio(seconds, reference)
    assert (found.median, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    shuffled = np.random.default_rng(0).permutation(seconds).tolist()
    loose = paired_ratio(shuffled, reference)
    assert loose.high - loose.low > 0.5

    # two of three rounds agree on 2; the medians' own ratio is 6 / 2 = 3
    assert paired_ratio([6.0, 4.0, 18.0], [3.0, 2.0, 1.0]).median == 2.0
    with pytest.raises(ValueError, match="longer"):
        paired_ratio([1.0], [1.0, 2.0])


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.37, 2.0])
def test_scaling_exponent_is_recovered(exponent):
    """time = a·pixels^e with another a in every round (the machine's mood): e comes back to 12 digits, without spread;
    points that are not evenly placed change nothing."""
    pixels = [32 * 64, 100 * 128, 128 * 256, 512 * 1024]
    moods = [1e-9, 3e-9, 1.7e-8]
    found = scaling_exponent(pixels, [[mood * n**exponent for mood in moods] for n in pixels])
    assert (found.median, found.low, found.high) == pytest.approx((exponent,) * 3, abs=1e-12)


def test_scaling_exponent_is_least_squares():
    """Three points at amounts 1, e, e² with log times 0, 0, 3: the slope is that between the ends, 1.5."""
    e = np.e
    assert scaling_exponent([1, e, e**2], [[1.0], [1.0], [np.exp(3.0)]]).median == pytest.approx(1.5)
