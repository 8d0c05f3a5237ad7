"""Figures as people read them."""

from __future__ import annotations

import pytest

from queryseg.benchmarking.benchmark_table import flops_text, interval, megabytes, milliseconds, three_digits
from queryseg.benchmarking.timing_statistics import Interval


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (-0.126, "-0.13")]
)
def test_three_digits(value, text):
    """Three significant digits at any size of the kinds that occur."""
    assert three_digits(value) == text


def test_units():
    """Seconds become ms, FLOPs get their prefix, bytes are MiB, quartiles stand in brackets."""
    assert milliseconds(0.0123) == "12.3"
    assert (flops_text(90_200_000_000), flops_text(1_450_000_000_000)) == ("90.2 G", "1.45 T")
    assert flops_text(6_570_000) == "6.57 M"
    assert (megabytes(2**20), megabytes(300 * 2**20)) == ("1.0 MiB", "300 MiB")
    assert interval(Interval(1.09, 1.04, 1.167)) == "1.09 [1.04, 1.17]"
