from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from queryseg.recipe import TrainingSettings
from queryseg.training.schedule import decayed, learning_rate, milestone_factor, rate_factor, reseed


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


TQDM = {"steps": 20_000, "warmup": 0.075, "schedule": "mmcv_poly", "min_learning_rate": 1e-6}


def test_the_floor_of_tqdm_s_configuration_stops_the_decay_of_its_backbone_on_gta() -> None:
    """1e-5 · 0.1 is the floor itself: 1e-6 from step 1500 on. The head decays from 1e-5 towards the floor."""
    gta = TrainingSettings(learning_rate=1e-5, **TQDM)
    assert all(learning_rate(step, gta, 0.1) == pytest.approx(1e-6, rel=1e-12) for step in range(1500, 20_000, 100))
    assert learning_rate(0, gta, 0.1) == pytest.approx(1e-12)
    assert learning_rate(750, gta, 0.1) == pytest.approx(0.5e-6, rel=1e-5)
    assert learning_rate(10_000, gta) == pytest.approx(1e-6 + 9e-6 * 0.5**0.9)
    assert learning_rate(1499, gta) < learning_rate(1500, gta) == pytest.approx(1e-6 + 9e-6 * 0.925**0.9)
    assert learning_rate(750, gta) == pytest.approx(0.5 * (1e-6 + 9e-6 * 0.9625**0.9), rel=1e-5)
    assert learning_rate(19_999, gta) == pytest.approx(1e-6, rel=0.01)


def test_without_the_floor_the_backbone_decays_and_on_cityscapes_it_did() -> None:
    fixed = TrainingSettings(learning_rate=1e-5, steps=20_000, warmup=0.075)
    assert learning_rate(1500, fixed, 0.1) == pytest.approx(1e-6)
    assert learning_rate(10_750, fixed, 0.1) == pytest.approx(1e-6 * 0.5**0.9)
    cityscapes = TrainingSettings(learning_rate=1e-4, **TQDM)
    assert learning_rate(10_000, cityscapes, 0.1) == pytest.approx(1e-6 + 9e-6 * 0.5**0.9)


def test_a_floor_under_a_decay_after_the_warm_up() -> None:
    settings = TrainingSettings(learning_rate=1e-4, steps=100, warmup=0.1, power=1.0, min_learning_rate=2e-5)
    assert [learning_rate(step, settings) for step in range(11)] == pytest.approx([(s + 1) / 11e4 for s in range(11)])
    assert learning_rate(55, settings) == pytest.approx(6e-5)
    assert learning_rate(55, settings, 0.1) == 1e-5  # below the floor from the start: it stays


@given(st.integers(0, 199), st.floats(0, 0.99), st.floats(0.01, 1))
def test_without_a_floor_every_group_keeps_its_share(step: int, warmup: float, factor: float) -> None:
    settings = TrainingSettings(steps=200, warmup=warmup)
    expected = factor * settings.learning_rate * rate_factor(step, 200, warmup, settings.power)
    assert learning_rate(step, settings, factor) == pytest.approx(expected)


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
