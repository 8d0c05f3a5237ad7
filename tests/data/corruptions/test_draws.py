import numpy as np
from scipy.stats import kstest

from queryseg.data.corruptions.draws import Draws


def test_a_stream_is_a_function_of_its_key() -> None:
    """Pinned: other words or another order of the same words give another stream."""
    assert Draws("a", "fog", 3).bits((4,)).tolist() == [2855911162, 1102566891, 1925823096, 3553566522]
    assert Draws("ab", "c").integer(0, 1 << 32) != Draws("a", "bc").integer(0, 1 << 32)
    assert (Draws("x").bits((5,)) == Draws("x").bits((6,))[:5]).all()


def test_distributions() -> None:
    draws = Draws("statistics")
    assert kstest(draws.uniform((100_000,)), "uniform").pvalue > 0.01
    assert kstest(draws.normal((100_000,), 2, 3), "norm", (2, 3)).pvalue > 0.01
    counts = np.bincount(draws.integers(-3, 3, (60_000,)) + 3)
    assert len(counts) == 6
    assert abs(counts - 10_000).max() < 500
    bounds = draws.uniform((100_000,))
    assert 0 < bounds.min() < bounds.max() < 1
