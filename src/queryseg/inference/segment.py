"""One segment that a model found.

Shape legend: H×W pixels of the image, h×w of the segment's box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from queryseg.data.class_table import ClassTable
from queryseg.types import SegmentReading


@dataclass(frozen=True)
class Segment:
    """A class of stuff or an object.

    id        1 …, its value on the segment map
    label     class index; class_name: what it means
    is_thing  an object of a countable class
    score     0…1
    area      pixels of its mask
    bbox      (x, y, width, height) in pixels
    inside    (h, w) bool, its mask within the box
    """

    id: int
    label: int
    class_name: str
    is_thing: bool
    score: float
    area: int
    bbox: tuple[int, int, int, int]
    inside: npt.NDArray[np.bool_]

    def mask(self, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(H, W) bool on an image of that size."""
        x, y, width, height = self.bbox
        mask = np.zeros(size, np.bool_)
        mask[y : y + height, x : x + width] = self.inside
        return mask


def found_segments(reading: SegmentReading, classes: ClassTable) -> tuple[npt.NDArray[np.int32], tuple[Segment, ...]]:
    """The segment map (H, W) int32 and its segments, on the host."""
    segment_map = reading.segment_map.cpu().numpy()
    masks = None if reading.masks is None else reading.masks.cpu().numpy()
    segments = []
    for place, (label, score) in enumerate(zip(reading.labels.tolist(), reading.scores.tolist(), strict=True)):
        mask = segment_map == place + 1 if masks is None else masks[place]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        inside = mask[top:bottom, left:right].copy()
        box = (left, top, right - left, bottom - top)
        is_thing = label in classes.things
        segments.append(
            Segment(place + 1, label, classes.names[label], is_thing, score, int(inside.sum()), box, inside)
        )
    return segment_map, tuple(segments)
