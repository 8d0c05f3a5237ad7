"""What many timings say together. All functions are pure; times are in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A median with its quartiles: half of the rounds lie between low and high."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        low, median, high = np.percentile(np.asarray(values, dtype=np.float64), (25, 50, 75))
        return cls(float(median), float(low), float(high))

    def to_json(self) -> dict[str, float]:
        return {"median": self.median, "quartile_1": self.low, "quartile_3": self.high}


@dataclass(frozen=True)
class Durations:
    """Percentiles (interpolated between rounds) and spread: interquartile range over median."""

    p50: float
    p95: float
    p99: float
    spread: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Durations:
        p25, p50, p75, p95, p99 = np.percentile(np.asarray(seconds, dtype=np.float64), (25, 50, 75, 95, 99))
        return cls(float(p50), float(p95), float(p99), float((p75 - p25) / p50))

    def to_json(self) -> dict[str, Any]:
        return {
            "p50_ms": 1000 * self.p50,
            "p95_ms": 1000 * self.p95,
            "p99_ms": 1000 * self.p99,
            "spread": self.spread,
        }


def paired_ratio(seconds: Sequence[float], reference: Sequence[float]) -> Interval:
    """The median of the rounds' own ratios: what slows down both in a round cancels, which it would not in a ratio of
    medians. seconds[i] and reference[i] come from the same round."""
    return Interval.of([a / b for a, b in zip(seconds, reference, strict=True)])


def scaling_exponent(amounts: Sequence[float], seconds: Sequence[Sequence[float]]) -> Interval:
    """e in time ∝ amount^e: the least-squares slope of log time over log amount, round by round.

    amounts  pixels or images, at least two different ones
    seconds  one sequence per amount, a time per round
    """
    x = np.log(np.asarray(amounts, dtype=np.float64))
    x -= x.mean()
    y = np.log(np.asarray(seconds, dtype=np.float64))  # (amounts, rounds)
    return Interval.of((x @ y / (x @ x)).tolist())
