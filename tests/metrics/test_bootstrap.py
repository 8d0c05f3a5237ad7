import math

import torch

from queryseg.metrics import mean_iou_interval


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
