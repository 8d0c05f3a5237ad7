"""Shape legend: B = 1 view, Q queries, masks' grid 2×8 of a canvas 4×16 whose last columns are padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.errors import InputError
from queryseg.evaluation.diagnostics.objectness import ObjectnessObserver
from queryseg.evaluation.observation import Observation


def observation(columns: list[tuple[int, int]], labels: list[int], objects: list[int] | None = None) -> Observation:
    """columns: of each query's mask, of 8; labels, objects: of each column"""
    masks = torch.full((1, len(columns), 2, 8), -1.0)
    for query, (first, last) in enumerate(columns):
        masks[0, query, :, first:last] = 1.0

    def spread(values: list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).repeat_interleave(2).expand(1, 4, 16)

    output: Any = SimpleNamespace(final=SimpleNamespace(mask_logits=masks))
    instance_maps = None if objects is None else spread(objects, torch.int32)
    return Observation(output, spread(labels, torch.uint8), (4, 14), instance_maps)


ROAD, CAR = 0, 1
LABELS = [0, 0, 1, 1, 1, 1, 255, 1]  # the last column is padding, whatever it says
OBJECTS = [0, 0, 1, 1, 2, 2, 0, 3]


def test_regions_of_semantic_models_are_whole_classes() -> None:
    observer = ObjectnessObserver(3)
    observer(observation([(0, 2), (2, 4)], LABELS, OBJECTS))
    assert observer.segments.tolist() == [1, 1, 0]
    assert observer.recall()[:2].tolist() == [1.0, 1.0], "half of the cars' region is an IoU of 0.5"
    observer(observation([(5, 6)], LABELS))
    assert observer.recall()[:2].tolist() == [0.5, 0.5]
    assert observer.recall()[2].isnan()


def test_objects_of_things_count_singly() -> None:
    observer = ObjectnessObserver(3, things=[CAR])
    observer(observation([(2, 4)], LABELS, OBJECTS))
    assert observer.segments.tolist() == [1, 2, 0]
    assert observer.recall()[:2].tolist() == [0.0, 0.5]


def test_crowds_are_left_out() -> None:
    observer = ObjectnessObserver(2, things=[CAR])
    observer(observation([(2, 6)], LABELS, [0] * 8))
    assert observer.segments.tolist() == [1, 0]


def test_objects_are_needed_where_the_model_tells_them_apart() -> None:
    with pytest.raises(InputError, match="the data set does not"):
        ObjectnessObserver(2, things=[CAR])(observation([(0, 1)], LABELS))
