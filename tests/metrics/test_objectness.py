"""Shape legend: Q queries, K = 4 classes, h×w = 2×10; regions are columns."""

from __future__ import annotations

from math import nan

import pytest
import torch
from torch import Tensor

from queryseg.metrics.objectness import best_overlaps, recall


def columns(*ranges: tuple[int, int]) -> Tensor:
    masks = torch.zeros(len(ranges), 2, 10, dtype=torch.bool)
    for mask, (first, last) in zip(masks, ranges, strict=True):
        mask[:, first:last] = True
    return masks


LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 3, 3, 255, 255]).expand(2, 10)


def test_the_best_query_of_each_region_whatever_its_class() -> None:
    found = best_overlaps(columns((0, 3), (2, 6), (6, 10)), LABELS, 4)
    assert found[:2].tolist() == pytest.approx([3 / 4, 2 / 4])
    assert found[2].isnan(), "absent"
    assert found[3] == 1, "ignored pixels count nowhere"


def test_without_queries_nothing_is_found() -> None:
    assert best_overlaps(columns(), LABELS, 4).nan_to_num(9).tolist() == [0, 0, 9, 0]
    assert best_overlaps(columns((8, 10)), LABELS, 4)[0] == 0


def test_recall_counts_the_images_with_the_class() -> None:
    overlaps = torch.tensor([[0.9, nan, 0.5, 0.1], [0.2, nan, nan, 0.4]])
    found = recall(overlaps)
    assert found[[0, 2, 3]].tolist() == [0.5, 1, 0]
    assert found[1].isnan()
    assert recall(overlaps, 0.15)[3] == 0.5
