"""What is left of a score on other data."""

from __future__ import annotations

import math

import pytest
import torch

from queryseg.metrics import Calibration, PixelScores, retention
from queryseg.metrics.measurement import Measurement


def images(number: int, quality: float, spread: float, seed: int) -> Measurement:
    """Margins of two classes with 1000 pixels each, whose IoU is `quality` on average."""
    draw = torch.rand(number, 2, generator=torch.Generator().manual_seed(seed))
    true = (1000 * (quality + spread * (draw - 0.5))).int()
    labelled = torch.full_like(true, 1000)
    return Measurement(PixelScores(2), torch.stack([true, labelled, true], 1))


def test_the_ratio_and_its_interval():
    """0.45 of 0.9; relative deviations add in squares, as of independent data sets: of means of 100 and 400 images with
    deviations 0.3/√12 and 0.1/√12 (two classes each)."""
    target, source = images(100, 0.45, 0.3, 0), images(400, 0.9, 0.1, 1)
    found = retention(target, source, "mean_iou", 4000)
    assert found.value == pytest.approx(0.5, abs=0.02)
    assert found.value == target.scores()["mean_iou"] / source.scores()["mean_iou"]
    deviation = 0.5 * math.hypot(0.3 / 0.45 / math.sqrt(12 * 200), 0.1 / 0.9 / math.sqrt(12 * 800))
    low, high = found.interval
    assert low < found.value < high
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.12)


def test_a_target_may_be_easier():
    found = retention(images(50, 0.9, 0.1, 0), images(50, 0.6, 0.1, 1), "mean_iou")
    assert found.value > 1.4
    assert found.interval[1] > found.value


def test_data_sets_are_resampled_independently():
    """The same images as source and target: 1, but not without doubt."""
    same = images(20, 0.5, 0.4, 0)
    found = retention(same, same, "pixel_accuracy")
    assert found.value == 1
    assert found.interval[0] < 0.95 < 1.05 < found.interval[1]


def test_no_source_no_ratio():
    nothing = images(5, 0.0, 0.0, 0)
    found = retention(images(5, 0.5, 0.1, 1), nothing, "mean_iou")
    assert math.isnan(found.value)
    assert all(math.isnan(bound) for bound in found.interval)
    alone = retention(images(1, 0.5, 0.1, 1), images(9, 0.5, 0.1, 1), "mean_iou")
    assert alone.value > 0
    assert math.isnan(alone.interval[0])


def test_only_scores_of_which_more_is_better_can_be_left():
    errors = Measurement(Calibration(2), torch.ones(3, 47))
    with pytest.raises(AssertionError):
        retention(errors, errors, "brier_score")
    with pytest.raises(AssertionError):
        retention(images(3, 0.5, 0.1, 0), errors, "mean_iou")
