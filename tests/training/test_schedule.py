from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from queryseg.training.schedule import decayed, milestone_factor, rate_factor, reseed


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


def test_milestones_drop_the_rate_by_ten_each():
    """SimCIS pan 100-5: ×0.1 after 4250 and 4750 of 5000 steps."""
    factors = [milestone_factor(step, 5000, [0.85, 0.95]) for step in (0, 4249, 4250, 4749, 4750, 4999)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [milestone_factor(step, 10, [0.5], 0.2, 0.2) for step in (0, 1, 2, 4, 5)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 1, 0.2]
    )
