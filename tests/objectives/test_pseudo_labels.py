"""Shape legend: Q queries, K = 5 classes, h×w = H×W = 8×8; regions are columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.errors import RecipeError
from queryseg.objectives import PseudoLabels
from queryseg.types import Dims, Prediction, Target

DIMS = Dims(tuple("abcde"), 8, 1, (8,), (8,), 8, 8)


def columns(first: int, last: int) -> Tensor:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, first:last] = True
    return mask


def found(*queries: tuple[int, float, Tensor]) -> Prediction:
    """One image; (class, score, mask) of every query."""
    scores = torch.full((1, len(queries), 5), 0.05)
    for row, (label, score, _) in enumerate(queries):
        scores[0, row, label] = score
    masks = torch.stack([mask for *_, mask in queries])[None] * 16.0 - 8
    nothing = scores[..., :0]
    return Prediction(scores.logit(), scores, masks, nothing, None, nothing)


def labelled(*segments: tuple[int, Tensor]) -> Target:
    label_map = torch.full((8, 8), 255)
    for label, mask in segments:
        label_map[mask] = label
    masks = torch.stack([mask for _, mask in segments]) if segments else torch.zeros(0, 8, 8, dtype=torch.bool)
    return Target(torch.tensor([label for label, _ in segments], dtype=torch.int64), masks, label_map)


def added(prediction: Prediction, target: Target, current: list[int], **options: Any) -> Target:
    return PseudoLabels(DIMS, current, **options).added(prediction, [target])[0]


OLD = found((3, 0.9, columns(0, 3)), (1, 0.8, columns(3, 6)))


def test_what_the_predecessor_finds_comes_first_and_fills_the_label_map() -> None:
    target = labelled((4, columns(6, 8)))
    result = added(OLD, target, [4])
    assert result.labels.tolist() == [3, 1, 4]
    assert result.num_pseudo == 2
    assert torch.equal(result.masks, torch.stack([columns(0, 3), columns(3, 6), columns(6, 8)]))
    assert result.label_map[0].tolist() == [3, 3, 3, 1, 1, 1, 4, 4]
    assert target.num_pseudo == 0
    assert target.label_map[0, 0] == 255, "the target itself is as it was"


def test_labelled_pixels_are_never_touched() -> None:
    """A candidate of six columns keeps five, 83 %, or loses two and is dropped."""
    wide = found((0, 0.9, columns(0, 6)))
    assert added(wide, labelled((4, columns(5, 8))), [4]).masks[0].equal(columns(0, 5))
    assert added(wide, labelled((4, columns(4, 8))), [4]).num_pseudo == 0
    assert added(wide, labelled((4, columns(4, 8))), [4], overlap=0.5).masks[0].equal(columns(0, 4))


def test_thresholds_of_the_tasks() -> None:
    unsure = found((0, 0.3, columns(0, 4)))
    assert added(unsure, labelled(), [4]).num_pseudo == 0
    assert added(unsure, labelled(), [4], threshold=0.2).num_pseudo == 1
    assert added(unsure, labelled(), [4], task="semantic").num_pseudo == 1


def test_regions_of_one_class_are_one_in_the_semantic_task() -> None:
    two = found((2, 0.9, columns(0, 3)), (0, 0.8, columns(3, 5)), (2, 0.7, columns(6, 8)))
    assert added(two, labelled(), [4]).labels.tolist() == [2, 0, 2]
    merged = added(two, labelled(), [4], task="semantic")
    assert merged.labels.tolist() == [0, 2]
    assert merged.masks[1].equal(columns(0, 3) | columns(6, 8))


def test_the_first_current_class_is_dropped_in_any_order_of_classes() -> None:
    """Later ones stay, as in the authors' code."""
    three = found((2, 0.9, columns(0, 2)), (4, 0.9, columns(2, 4)), (0, 0.9, columns(4, 6)))
    assert added(three, labelled(), [2, 4]).labels.tolist() == [4, 0]
    assert added(three, labelled(), [4, 2]).labels.tolist() == [2, 0]
    assert added(three, labelled(), []).labels.tolist() == [2, 4, 0]


def test_replayed_images_keep_their_targets() -> None:
    target = labelled((1, columns(6, 7)), (4, columns(7, 8)))
    assert added(OLD, target, [4]) is target
    assert added(OLD, target, [4, 1]).num_pseudo > 0
    assert added(OLD, target, []).num_pseudo > 0, "without a split every label is the task's own"


def test_sure_candidates_win_over_those_that_two_classes_share() -> None:
    pair = found((0, 0.75, columns(0, 6)), (1, 0.7, columns(2, 8)))
    shared = pair.class_scores.clone()
    shared[0, 0, 2] = 0.72  # the first query's other class
    pair = Prediction(pair.class_logits, shared, *[pair.mask_logits] * 4)
    assert added(pair, labelled(), [4]).labels.tolist() == [1]
    assert added(pair, labelled(), [4], task="semantic").labels.tolist() == [0]


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(RecipeError, match="current_classes names 5; give class indices from 0 to 4"):
        PseudoLabels(DIMS, [5])
    with pytest.raises(RecipeError, match="temperature is 0; give a number above 0"):
        PseudoLabels(DIMS, temperature=0)
