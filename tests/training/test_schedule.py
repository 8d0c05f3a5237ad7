from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from queryseg.training.schedule import decayed, rate_factor, reseed


def test_polynomial_decay() -> None:
    assert rate_factor(0, 40_000) == 1
    assert rate_factor(20_000, 40_000) == pytest.approx(0.5**0.9)
    assert rate_factor(39_999, 40_000) == pytest.approx((1 / 40_000) ** 0.9)


def test_warmup_rises_linearly_and_then_decays_over_the_rest() -> None:
    factors = [rate_factor(step, 100, warmup=0.1, power=1.0) for step in range(100)]
    assert factors[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5)


@given(st.integers(1, 500), st.floats(0, 0.99), st.floats(0.1, 3))
def test_every_step_learns(steps: int, warmup: float, power: float) -> None:
    factors = [rate_factor(step, steps, warmup, power) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_reseed_is_a_function_of_its_arguments() -> None:
    seen = {}
    for key in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]:
        reseed(*key)
        seen[key] = draw()
        draw()
    assert len(set(seen.values())) == len(seen)
    for key, values in seen.items():
        reseed(*key)
        assert draw() == values


def test_weight_decay_is_annealed_along_half_a_cosine() -> None:
    assert decayed(0, 1000, 0.05, 1e-5) == pytest.approx(0.05)
    assert decayed(500, 1000, 0.05, 1e-5) == pytest.approx((0.05 + 1e-5) / 2)
    assert decayed(250, 1000, 0.05, 1e-5) == pytest.approx(1e-5 + (0.05 - 1e-5) * (1 + 0.5**0.5) / 2)
    assert decayed(1000, 1000, 0.05, 1e-5) == pytest.approx(1e-5)
    assert decayed(700, 1000, 0.05, None) == 0.05
