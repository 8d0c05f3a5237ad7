"""Shape legend: B = 1 image, Q queries, K = 3 classes, h×w = H×W pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from queryseg.errors import RecipeError
from queryseg.readouts import Mixture, RegionAssembly
from queryseg.types import Prediction

SIZE = (4, 8)


def prediction(scores: list[list[float]], masks: list[Tensor]) -> Prediction:
    """masks: bool, each at probabilities of 0.99 and 0.01"""
    logits = torch.tensor([scores]).logit()
    stacked = torch.stack(masks)[None] * 9.2 - 4.6
    nothing = logits[..., :0]
    return Prediction(logits, logits.sigmoid(), stacked, nothing, None, nothing)


def columns(first: int, last: int) -> Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:, first:last] = True
    return mask


def labels(found: Prediction, **options: float) -> list[int]:
    """Of the first row: regions are columns."""
    found_labels = RegionAssembly(**options).labels(found, SIZE, SIZE)
    assert found_labels.dtype == torch.uint8
    assert bool((found_labels == found_labels[:, :1]).all())
    return found_labels[0, 0].tolist()


def test_pixels_of_no_region_are_nothing() -> None:
    found = prediction([[0.9, 0.1, 0.1], [0.1, 0.1, 0.8]], [columns(0, 4), columns(5, 8)])
    assert labels(found) == [0, 0, 0, 0, 255, 2, 2, 2]


def test_queries_below_the_threshold_say_nothing() -> None:
    found = prediction([[0.5, 0.1, 0.1], [0.1, 0.1, 0.39]], [columns(0, 4), columns(4, 8)])
    assert labels(found, overlap_threshold=0.5) == [0] * 4 + [255] * 4
    assert labels(found, overlap_threshold=0.5, semantic_threshold=0.38) == [0] * 4 + [2] * 4
    assert labels(found, overlap_threshold=0.5, semantic_threshold=0.6) == [255] * 8


def test_a_region_that_loses_too_much_of_its_mask_is_dropped() -> None:
    """Its pixels stay empty: the mask of 5 columns keeps 3, 60 %."""
    found = prediction([[0.9, 0.1, 0.1], [0.1, 0.7, 0.1]], [columns(0, 5), columns(3, 8)])
    assert labels(found) == [0] * 5 + [255] * 3
    assert labels(found, overlap_threshold=0.55) == [0] * 5 + [1] * 3


def test_a_region_that_wins_far_more_than_its_mask_is_dropped() -> None:
    """A query alone wins every pixel, whatever its mask."""
    assert labels(prediction([[0.9, 0.1, 0.1]], [columns(0, 7)])) == [0] * 7 + [255]
    assert labels(prediction([[0.9, 0.1, 0.1]], [columns(0, 6)])) == [255] * 8


def test_scores_name_a_class_everywhere_and_regions_first() -> None:
    found = prediction([[0.9, 0.1, 0.1], [0.1, 0.3, 0.2]], [columns(0, 7), columns(7, 8)])
    scores = RegionAssembly().scores(found, SIZE, SIZE)
    assert scores.shape == (1, 3, *SIZE)
    assert scores.argmax(1)[0, 0].tolist() == [0] * 7 + [1]
    torch.testing.assert_close(scores[0, 0, 0, 0], 0.9 * torch.tensor(4.6).sigmoid())
    assert scores[0, :, :, 7].max() < 1e-5
    faint = Mixture("masks_first").scores(found, SIZE, SIZE)
    torch.testing.assert_close(scores[..., 7], 1e-6 * faint[..., 7])


def test_the_image_is_the_upper_left_corner_of_the_canvas() -> None:
    found = prediction([[0.9, 0.1, 0.1], [0.1, 0.1, 0.8]], [columns(0, 3), columns(3, 8)])
    readout = RegionAssembly()
    for read in (readout.labels, readout.scores):
        assert torch.equal(read(found, (8, 16), (5, 11)), read(found, (8, 16), (8, 16))[..., :5, :11])


def test_panoptic_candidates_compete_by_sharpened_scores() -> None:
    """Sure of one class beats a higher score that is shared by two: 0.7 against 0.75."""
    found = prediction([[0.75, 0.7, 0.1], [0.1, 0.1, 0.7]], [columns(0, 5), columns(3, 8)])
    readout = RegionAssembly(overlap_threshold=0.5)
    offered = readout.candidates(found)
    assert offered.labels.tolist() == [[0, 2]]
    torch.testing.assert_close(offered.confidence, torch.tensor([[0.75, 0.7]]))
    by_hand = (torch.tensor([0.1, 0.1, 0.7]) / 0.06).softmax(0)[2]
    torch.testing.assert_close(offered.scores[0, 1], by_hand)
    assert offered.scores[0, 0] < 0.72
    (reading,) = readout.panoptic(found, SIZE, SIZE, frozenset({2}))
    assert reading.labels.tolist() == [0, 2]
    assert reading.segment_map[0].tolist() == [1] * 3 + [2] * 5
    (plain,) = Mixture(object_threshold=0.3, overlap_threshold=0.5).panoptic(found, SIZE, SIZE, frozenset({2}))
    assert plain.segment_map[0].tolist() == [1] * 5 + [2] * 3


def test_options_make_another_one_that_reads_alike() -> None:
    readout = RegionAssembly(0.2, 0.7, 0.5, 0.1, 0.4, 9)
    assert RegionAssembly(**readout.options).options == readout.options
    assert readout.options["temperature"] == 0.1


@pytest.mark.parametrize("options", [{"semantic_threshold": 1.2}, {"temperature": 0.0}, {"overlap_threshold": -1.0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=rf"{next(iter(options))} is "):
        RegionAssembly(**options)
