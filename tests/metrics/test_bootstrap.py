import math

import pytest
import torch

from queryseg.metrics import mean_iou_interval
from queryseg.metrics.bootstrap import basic_interval, resampled_sums


def images(number: int, spread: float, seed: int = 0) -> torch.Tensor:
    """(number, 3, 5) margins whose IoUs vary by `spread` around 0.6."""
    quality = 0.6 + spread * (torch.rand(number, 5, generator=torch.Generator().manual_seed(seed)) - 0.5)
    true = (1000 * quality).long()
    return torch.stack([true, torch.full_like(true, 1000), true], 1)


def test_the_interval_surrounds_the_score_and_narrows_with_more_images():
    few, many = mean_iou_interval(images(20, 0.5)), mean_iou_interval(images(500, 0.5))
    assert few[0] < 0.6 < few[1]
    assert many[1] - many[0] < 0.4 * (few[1] - few[0])


def test_it_is_the_same_every_time_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    assert mean_iou_interval(images(9, 0.4)) == mean_iou_interval(images(9, 0.4))
    assert torch.equal(torch.get_rng_state(), state)


def test_equal_images_leave_no_doubt():
    low, high = mean_iou_interval(images(1, 0.3).repeat(8, 1, 1))
    assert math.isclose(low, high)


def test_a_rare_class_does_not_push_the_interval_below_the_score():
    margins = images(12, 0.1)
    margins[1:, :, 4] = 0  # labelled in one image only; resamples without it lose its high IoU
    margins[0, :, 4] = 1000
    true, labelled, predicted = margins.sum(0).double()
    score = float((true / (labelled + predicted - true)).mean())
    low, high = mean_iou_interval(margins)
    assert low <= score <= high
    assert high - score > score - low


def test_one_image_or_none_gives_no_interval():
    assert all(math.isnan(bound) for n in (0, 1) for bound in mean_iou_interval(images(n, 0.3)))
    assert all(math.isnan(bound) for bound in mean_iou_interval(torch.zeros(4, 3, 5, dtype=torch.int64)))


def test_resampled_sums_are_sums_of_as_many_images_as_there_are():
    """Of statistics (1, i): the first sum is always 7, the second varies around 7 · 3 with the deviation √7 · 2."""
    statistics = torch.stack([torch.ones(7), torch.arange(7)], 1)
    sums = resampled_sums(statistics, 4000)
    assert sums.shape == (4000, 2)
    assert (sums[:, 0] == 7).all()
    assert float(sums[:, 1].mean()) == pytest.approx(21, abs=0.5)
    assert float(sums[:, 1].std()) == pytest.approx(2 * math.sqrt(7), rel=0.05)


def test_many_images_are_drawn_in_parts():
    """300,000 images: ten resamples take four parts, and each image is drawn once on average."""
    sums = resampled_sums(torch.eye(3, dtype=torch.int32).repeat(100_000, 1), 10)
    assert (sums.sum(1) == 300_000).all()
    assert (sums - 100_000).abs().max() < 5 * math.sqrt(100_000)
    assert sums.unique(dim=0).shape[0] == 10


def test_an_interval_is_reflected_holds_the_score_and_keeps_to_its_limits():
    """Resamples from 0.1 to 0.5 of a score of 0.4: their 2.5 and 97.5 % are 0.11 and 0.49, reflected 0.31 and 0.69."""
    resampled = torch.linspace(0.1, 0.5, 1001, dtype=torch.float64)
    assert basic_interval(0.4, resampled) == pytest.approx((0.31, 0.69))
    assert basic_interval(0.4, resampled, limits=(0, 0.5)) == pytest.approx((0.31, 0.5))
    assert basic_interval(0.4, resampled + 1)[1] == 0.4
    undefined = torch.full((100,), math.nan)
    assert basic_interval(0.4, torch.cat([resampled, undefined])) == pytest.approx((0.31, 0.69))
    assert all(math.isnan(bound) for bound in basic_interval(0.4, undefined))
