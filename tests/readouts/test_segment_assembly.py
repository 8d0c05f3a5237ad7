"""Panoptic and instance readout, against plain loops; against Hugging Face: tests/parity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from queryseg.contracts import Readout
from queryseg.errors import InputError, RecipeError
from queryseg.readouts import Mixture, PerPixel
from queryseg.readouts.segment_assembly import enlarger, instance_segments, panoptic_segments
from queryseg.types import Prediction, SegmentReading

THINGS = frozenset({1, 2})
SIZE = (12, 16)


def blocks(*boxes: tuple[int, int], height: int = 4, width: int = 8) -> Tensor:
    """Logits ±9: columns from … to of every mask."""
    logits = torch.full((len(boxes), height, width), -9.0)
    for mask, (start, end) in zip(logits, boxes, strict=True):
        mask[:, start:end] = 9
    return logits


def panoptic(logits: Tensor, scores: list[float], labels: list[int], overlap: float = 0.8) -> SegmentReading:
    size = (logits.shape[1], logits.shape[2])
    return panoptic_segments(
        logits, torch.tensor(scores), torch.tensor(labels), THINGS, overlap, enlarger(size, size), size
    )


def test_stuff_is_merged_and_objects_are_not() -> None:
    """Two queries of class 0 (stuff) are one segment with the better score, two of class 1 are two."""
    found = panoptic(blocks((0, 2), (2, 4), (4, 6), (6, 8)), [0.9, 0.95, 0.9, 0.85], [0, 0, 1, 1])
    assert found.segment_map[0].tolist() == [1, 1, 1, 1, 2, 2, 3, 3]
    assert found.segment_map.dtype == torch.int32
    assert found.labels.tolist() == [0, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.95, 0.9, 0.85])
    labels, instances = found.maps(THINGS)
    assert labels[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert instances[0].tolist() == [0, 0, 0, 0, 2, 2, 3, 3]


def test_what_loses_most_of_its_mask_is_dropped_with_its_pixels() -> None:
    """The second query keeps 3 of 5 columns: dropped at 0.8, kept at 0.6; no one else gets its pixels."""
    logits = blocks((0, 4), (2, 7))
    dropped = panoptic(logits, [0.95, 0.9], [1, 1])
    assert dropped.segment_map[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert dropped.labels.tolist() == [1]
    kept = panoptic(logits, [0.95, 0.9], [1, 1], overlap=0.6)
    assert kept.segment_map[0].tolist() == [1, 1, 1, 1, 2, 2, 2, 0]  # column 7 is in no mask
    assert dropped.maps(THINGS)[0][0].tolist() == [1, 1, 1, 1, 255, 255, 255, 255]


def test_nothing_is_found_without_candidates() -> None:
    empty = panoptic(blocks()[:0].reshape(0, 4, 8), [], [])
    assert (empty.segment_map.tolist(), len(empty.labels)) == ([[0] * 8] * 4, 0)
    assert (empty.maps(THINGS)[0] == 255).all()


def published(masks: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> tuple[Tensor, list[int]]:
    """Mask2Former's panoptic inference, written down once more as a loop over probabilities (N, H, W)."""
    result = torch.zeros(masks.shape[1:], dtype=torch.int32)
    winner = (scores[:, None, None] * masks).argmax(0)
    classes: list[int] = []
    stuff: dict[int, int] = {}
    for k, label in enumerate(labels.tolist()):
        own, won = int((masks[k] >= 0.5).sum()), int((winner == k).sum())
        pixels = (winner == k) & (masks[k] >= 0.5)
        if not own or not won or not pixels.any() or won / own < overlap:
            continue
        if label not in THINGS and label in stuff:
            result[pixels] = stuff[label]
            continue
        classes.append(label)
        result[pixels] = len(classes)
        if label not in THINGS:
            stuff[label] = len(classes)
    return result, classes


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_random_masks_equal_the_published_loop(overlap: float) -> None:
    """100 images with smooth masks and scores of every size: equal ids in equal order."""
    torch.manual_seed(0)
    found_any = 0
    for _ in range(100):
        n = int(torch.randint(1, 9, ()))
        logits = torch.nn.functional.interpolate(torch.randn(1, n, 4, 5) * 6, SIZE, mode="bicubic")[0]
        scores, labels = torch.rand(n), torch.randint(0, 4, (n,))
        found = panoptic_segments(logits, scores, labels, THINGS, overlap, enlarger(SIZE, SIZE), SIZE)
        expected, classes = published(logits.sigmoid(), scores, labels, overlap)
        assert torch.equal(found.segment_map, expected)
        assert found.labels.tolist() == classes
        found_any += len(classes)
    assert found_any > 30


def prediction(logits: Tensor, masks: Tensor) -> Prediction:
    empty = torch.zeros(1, masks.shape[1], 1)
    return Prediction(logits, logits.softmax(-1)[..., :-1], masks, empty, None, empty)


def test_candidates_pass_the_threshold_and_are_no_no_object() -> None:
    """Of four queries one names no object, one is unsure; 0.3 lets the unsure one in, never the first."""
    logits = torch.tensor([[[5.0, 0, 0, 0], [0, 5, 0, 0], [1, 0, 0, 0], [0.9, 0, 0, 1]]])  # the last column: no object
    masks = blocks((0, 2), (2, 4), (4, 6), (6, 8))[None]
    canvas = (4, 8)
    strict = Mixture().panoptic(prediction(logits, masks), canvas, canvas, THINGS)[0]
    assert strict.segment_map[0].tolist() == [1, 1, 2, 2, 0, 0, 0, 0]
    lenient = Mixture(object_threshold=0.3).panoptic(prediction(logits, masks), canvas, canvas, THINGS)[0]
    assert lenient.segment_map[0].tolist() == [1, 1, 2, 2, 1, 1, 0, 0]  # class 0 is stuff: merged


def test_masks_are_enlarged_to_the_canvas_and_cut_to_the_image() -> None:
    """Masks of a padded canvas, enlarged twofold: the image is its upper left corner."""
    logits = torch.tensor([[[9.0, 0, 0], [0, 9, 0]]])
    masks = blocks((0, 4), (4, 8))[None]
    found = Mixture().panoptic(prediction(logits, masks), (8, 16), (7, 10), THINGS)[0]
    assert found.segment_map.shape == (7, 10)
    assert found.segment_map[0].tolist() == [1] * 8 + [2] * 2


def test_instances_are_things_that_may_overlap() -> None:
    """Class 0 is stuff and left out; the better object covers the other on the map, whose mask stays whole."""
    masks = torch.cat([blocks((0, 8)), blocks((0, 5), (3, 8))])
    scores = torch.tensor([[0.99, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.9]])
    found = instance_segments(masks, scores, THINGS, 3, 0.5, enlarger((4, 8), (4, 8)), (4, 8))
    assert found.labels.tolist() == [2, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6], abs=1e-3)
    assert found.segment_map[0].tolist() == [2, 2, 2, 1, 1, 1, 1, 1]
    assert found.masks is not None
    assert found.masks[1, 0].tolist() == [True] * 5 + [False] * 3
    few = instance_segments(masks, scores, THINGS, 2, 0.5, enlarger((4, 8), (4, 8)), (4, 8))
    assert few.labels.tolist() == [2]  # the best two pairs: one of them is stuff
    none = instance_segments(masks, scores, THINGS, 3, 0.95, enlarger((4, 8), (4, 8)), (4, 8))
    assert none.masks is not None
    assert (none.masks.shape, none.segment_map.max()) == ((0, 4, 8), 0)


def test_readouts_without_segments_say_so() -> None:
    readout: Readout = PerPixel()
    with pytest.raises(InputError, match="PerPixel gives every pixel a class"):
        readout.panoptic(prediction(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4, 8)), (4, 8), (4, 8), THINGS)


@pytest.mark.parametrize("options", [{"object_threshold": 1.5}, {"overlap_threshold": -0.1}, {"top_k": 0}])
def test_thresholds_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=next(iter(options))):
        Mixture(**options)  # type: ignore[arg-type]
