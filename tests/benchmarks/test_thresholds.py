"""Pseudo-labels are counted beside labelled segments, by the least score."""

from __future__ import annotations

import pytest
import torch
from thresholds import Counts


def test_a_pseudo_label_is_right_if_it_overlaps_a_segment_of_its_class_by_half():
    """Two cars of 4 pixels and a road of 8. Of three pseudo-labels one is 3 pixels of a car (IoU 3/4), one 2 pixels of
    the other (1/2, too few), one 8 pixels of road that are called a car."""
    row = torch.arange(16)
    first, second, road = row < 4, (row >= 4) & (row < 8), row >= 8
    labels, masks = torch.tensor([1, 1, 0]), torch.stack((first, second, road)).view(3, 4, 4)
    counts = Counts((0.2, 0.4), 3)
    counts.labelled += torch.tensor([1, 2, 0])
    found = torch.tensor([1, 1, 1]), torch.stack((first & (row > 0), second & (row > 5), road)).view(3, 4, 4)
    counts.add(1, found, labels, masks)
    assert counts.made[1].tolist() == [0, 3, 0]
    assert counts.right[1].tolist() == [0, 1, 0]
    summary = counts.summary()
    assert list(summary) == ["0.2", "0.4"]
    assert summary["0.4"] == {"found": pytest.approx(1 / 4), "right": pytest.approx(1 / 3, abs=1e-3)}
