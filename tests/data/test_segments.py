"""Segments of label and instance maps."""

from __future__ import annotations

import torch

from queryseg.data.segments import LabelledSegments

THINGS = frozenset({1, 2})
LABELS = torch.tensor([[0, 0, 1, 1], [255, 2, 2, 1]], dtype=torch.uint8)
INSTANCES = torch.tensor([[9, 0, 3, 3], [0, 0, 5, 1]], dtype=torch.int32)


def test_every_class_of_stuff_object_and_crowd_is_one_segment() -> None:
    """By class, then by number; a number on stuff means nothing, ignored pixels have no segment."""
    found = LabelledSegments.of(LABELS, INSTANCES, THINGS)
    assert found.labels.tolist() == [0, 1, 1, 2, 2]
    assert found.instances.tolist() == [0, 1, 3, 0, 5]
    assert found.index_map.tolist() == [[0, 0, 2, 2], [-1, 3, 4, 1]]
    assert found.crowds(THINGS).tolist() == [False, False, False, True, False]


def test_segments_that_are_left_out_leave_no_gap() -> None:
    """The others keep their order and pixels; nothing is left of an image without any."""
    found = LabelledSegments.of(LABELS, INSTANCES, THINGS)
    objects = found.where(found.instances > 0)
    assert objects.labels.tolist() == [1, 1, 2]
    assert objects.index_map.tolist() == [[-1, -1, 1, 1], [-1, -1, 2, 0]]
    none = LabelledSegments.of(torch.full((2, 2), 255, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.int32), THINGS)
    assert (none.labels.shape, none.index_map.tolist()) == ((0,), [[-1, -1], [-1, -1]])
    assert none.where(none.instances > 0).index_map.tolist() == [[-1, -1], [-1, -1]]
