"""Segments as pictures."""

from __future__ import annotations

import numpy as np

from queryseg.data.class_table import CITYSCAPES
from queryseg.data.segment_drawing import colorize_segments, overlay_segments, segment_borders, segment_colors

ROAD, CAR = 0, 13
MAP = np.array([[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [1, 1, 3, 3, 0]], np.int32)
COLORS = segment_colors([(ROAD, False), (CAR, True), (CAR, True)], CITYSCAPES)


def test_objects_of_one_class_have_shades_that_differ() -> None:
    """The first object has its class's colour, as stuff has; of 30 in a row no two neighbours are nearer than 20 of 255
    in every channel, and all keep the class's hue within a fifth of the circle."""
    assert COLORS[:2] == [CITYSCAPES.colors[ROAD], CITYSCAPES.colors[CAR]]
    shades = np.array(segment_colors([(label, True) for label in (11, 13) for _ in range(30)], CITYSCAPES), int)
    for group in (shades[:30], shades[30:]):
        assert np.abs(np.diff(group, axis=0)).max(1).min() >= 20
        assert len(np.unique(group, axis=0)) == 30


def test_borders_part_segments_and_void() -> None:
    """Left and upper side of every change, one pixel wide."""
    assert segment_borders(MAP).astype(int).tolist() == [[0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0]]
    wide = segment_borders(np.repeat([[1, 2]], [40, 40], 1).repeat(1440, 0).repeat(20, 1).astype(np.int32))
    assert wide[0].sum() == 2  # twice 720 rows


def test_overlay_runs_from_image_to_colors() -> None:
    """Nothing is drawn at 0; pixels of no segment show the image at any opacity."""
    image = np.full((3, 5, 3), 80, np.uint8)
    assert (overlay_segments(image, MAP, COLORS, 0) == image).all()
    whole = overlay_segments(image, MAP, COLORS, 1)
    assert (whole[MAP > 0] == colorize_segments(MAP, COLORS)[MAP > 0]).all()
    assert (whole[:, 4] == 80).all()
    half = overlay_segments(image, MAP, COLORS, 0.5)
    assert half[0, 0].tolist() == [(80 + c) // 2 for c in CITYSCAPES.colors[ROAD]]
