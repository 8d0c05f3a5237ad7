"""Calibration against torchmetrics, and by numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from queryseg.errors import InputError
from queryseg.metrics import Calibration, Measurement, PredictedMaps, ReliabilityDiagram
from queryseg.metrics.calibration import SMALLEST_PROBABILITY, nearest_indices
from queryseg.types import Sample

K = 4


def measured(images: list[tuple[Tensor, Tensor]], **options) -> Measurement:
    metric = Calibration(K, **options)
    for probabilities, label_map in images:
        prediction = PredictedMaps(torch.empty(0), probabilities=probabilities)
        metric.update(prediction, Sample(torch.empty(0), label_map, ""))
    return metric.compute()


def image(seed: int, size: tuple[int, int] = (6, 9)) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(K, *size, generator=draw)).softmax(0)
    label_map = torch.randint(0, K + 1, size, generator=draw)
    return probabilities, label_map.masked_fill(label_map == K, 255).byte()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=3), st.sampled_from([1, 7, 15]))
@settings(max_examples=50, deadline=None)
def test_the_error_equals_torchmetrics_on_all_pixels_together(seeds, num_bins):
    images = [image(seed) for seed in seeds]
    pixels = torch.cat([p.flatten(1) for p, _ in images], 1).T
    labels = torch.cat([label_map.flatten() for _, label_map in images]).long()
    expected = multiclass_calibration_error(pixels, labels, K, num_bins, ignore_index=255)
    found = measured(images, num_bins=num_bins).scores()["expected_calibration_error"]
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_likelihood_brier_and_classwise_error_equal_their_definitions():
    """Three images pooled, in numpy and float64."""
    images = [image(seed) for seed in range(3)]
    p = np.concatenate([p.flatten(1).T for p, _ in images]).astype(np.float64)
    labels = np.concatenate([label_map.flatten() for _, label_map in images])
    p, labels = p[labels != 255], labels[labels != 255]
    wanted = np.eye(K)[labels]
    scores = measured(images, classwise=True).scores()
    assert scores["negative_log_likelihood"] == pytest.approx(-np.log((p * wanted).sum(1)).mean(), rel=1e-6)
    assert scores["brier_score"] == pytest.approx(((p - wanted) ** 2).sum(1).mean(), rel=1e-6)
    errors = []
    for k in range(K):
        bins = np.ceil(p[:, k] * 15) - 1
        parts = [(p[bins == b, k], wanted[bins == b, k]) for b in range(15) if (bins == b).any()]
        errors.append(sum(len(q) / len(p) * abs(y.mean() - q.mean()) for q, y in parts))
    np.testing.assert_allclose(measured(images, classwise=True).per_class()["calibration_error"], errors, atol=1e-6)
    assert scores["classwise_calibration_error"] == pytest.approx(np.mean(errors), abs=1e-6)


def test_what_classes_leave_counts_as_a_class_that_is_never_right():
    """0.6 for the label, 0.1 for another: Brier 0.4² + 0.1² + 0.3², confidence 0.6."""
    probabilities = torch.tensor([0.6, 0.1, 0.0, 0.0])[:, None, None]
    found = measured([(probabilities, torch.zeros(1, 1, dtype=torch.uint8))])
    assert found.scores()["brier_score"] == pytest.approx(0.16 + 0.01 + 0.09)
    assert found.scores()["expected_calibration_error"] == pytest.approx(0.4)
    assert found.scores()["negative_log_likelihood"] == pytest.approx(-math.log(0.6))


def test_a_model_that_knows_how_often_it_is_right_has_no_error():
    """Confidence 0.75, three of four right. Where it rules the label out, the likelihood stays finite."""
    probabilities = torch.tensor([0.75, 0.25, 0, 0])[:, None, None].expand(K, 1, 4)
    label_map = torch.tensor([[0, 0, 0, 3]], dtype=torch.uint8)
    scores = measured([(probabilities, label_map)]).scores()
    assert scores["expected_calibration_error"] == 0
    expected = (-3 * math.log(0.75) - math.log(SMALLEST_PROBABILITY)) / 4
    assert scores["negative_log_likelihood"] == pytest.approx(expected)


def test_the_reliability_diagram_tells_bins_apart():
    """Two bins: (0, 0.5] with one pixel of 0.4 that is wrong, (0.5, 1] with two of 0.6 and 0.8, one of them right. A
    confidence on an edge belongs to the bin below."""
    confidences = torch.tensor([[0.4, 0.6, 0.8, 0.5]])
    probabilities = torch.stack([confidences, *([(1 - confidences) / 3] * 3)])
    label_map = torch.tensor([[1, 0, 2, 0]], dtype=torch.uint8)
    diagram = ReliabilityDiagram.of(measured([(probabilities, label_map)], num_bins=2))
    assert diagram.edges.tolist() == [0, 0.5, 1]
    assert diagram.num_pixels.tolist() == [2, 2]
    assert diagram.confidence.tolist() == pytest.approx([0.45, 0.7])
    assert diagram.accuracy.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("length", "number"), [(1024, 256), (1030, 258), (7, 7), (5, 2), (3, 8)])
def test_labels_are_looked_up_nearest_to_the_grids_centres(length, number):
    """No other pixel's centre is nearer; at a stride of 4 these are pixels 2, 6, 10 …"""
    indices = nearest_indices(length, number)
    centres = (torch.arange(number) + 0.5) * length / number - 0.5
    nearest = (torch.arange(length)[:, None] - centres).abs().min(0).values
    assert torch.equal((indices - centres).abs(), nearest)
    if (length, number) == (1024, 256):
        assert indices[:3].tolist() == [2, 6, 10]


def test_scores_at_a_coarser_grid_meet_the_labels_below_them():
    label_map = torch.full((8, 12), 3, dtype=torch.uint8)
    label_map[2::4, 2::4] = torch.tensor([[0, 1, 2], [255, 1, 0]], dtype=torch.uint8)
    wanted = torch.tensor([[0, 1, 2], [0, 1, 0]])
    probabilities = torch.nn.functional.one_hot(wanted, K).permute(2, 0, 1).float()
    found = measured([(probabilities, label_map)])
    assert found.scores()["brier_score"] == 0
    assert float(found.pooled[:45].view(3, 15)[0].sum()) == 5


def test_an_image_without_labelled_pixels_adds_nothing():
    empty = (image(0)[0], torch.full((6, 9), 255, dtype=torch.uint8))
    assert measured([image(1), empty]).scores() == measured([image(1)]).scores()
    assert all(math.isnan(score) for score in measured([empty]).scores().values())


def test_what_cannot_be_measured_is_refused():
    label_map = torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(InputError, match="needs the probabilities"):
        Calibration(K).update(PredictedMaps(label_map), Sample(torch.empty(0), label_map, ""))
    with pytest.raises(InputError, match="of 3 classes, but 4"):
        measured([(torch.zeros(3, 2, 2), label_map)])
    with pytest.raises(InputError, match="holds 9, but there are 4"):
        measured([(torch.zeros(4, 2, 2), label_map + 9)])
    with pytest.raises(InputError, match="num_bins is 0"):
        Calibration(K, num_bins=0)
