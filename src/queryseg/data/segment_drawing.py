"""Segments as pictures: objects of one class in shades of its colour, all segments with borders.

Shape legend: H×W pixels, M segments.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from queryseg.data.class_table import ClassTable, Color
from queryseg.data.drawing import Pixels

_GOLDEN = 0.618033988749895
_BORDER = (255, 255, 255)


def segment_colors(segments: Sequence[tuple[int, bool]], classes: ClassTable) -> list[Color]:
    """One colour per (label, is_thing), in order: stuff has its class's, objects shades of it that neighbours in the
    list do not share."""
    colors: list[Color] = []
    drawn: dict[int, int] = {}
    for label, is_thing in segments:
        number = drawn[label] = drawn.get(label, -1) + 1
        colors.append(_shade(classes.colors[label], number) if is_thing else classes.colors[label])
    return colors


def _shade(color: Color, number: int) -> Color:
    """The class's own colour for number 0, then others around it: hue within ±0.09, three levels of brightness."""
    if number == 0:
        return color
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    hue = (hue + 0.18 * (number * _GOLDEN % 1 - 0.5)) % 1
    saturation = max(saturation, 0.45) * (1, 0.6, 0.8)[number % 3]
    value = min(1, max(value, 0.5) * (1, 1.4, 0.7)[number % 3] + 0.05)
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def colorize_segments(segment_map: npt.NDArray[np.int32], colors: Sequence[Color]) -> Pixels:
    """(H, W) ids 1 … M → (H, W, 3) uint8; pixels of no segment are black, borders white."""
    palette = np.array([(0, 0, 0), *colors], np.uint8)
    picture = palette.take(segment_map, 0)
    picture[segment_borders(segment_map)] = _BORDER
    return picture


def overlay_segments(
    image: Pixels, segment_map: npt.NDArray[np.int32], colors: Sequence[Color], alpha: float = 0.5
) -> Pixels:
    """Image (H, W, 3) under the colours of its segments; alpha: their opacity, 0…1. Pixels of no segment show the
    image alone, borders are white whatever the opacity."""
    mixed = image * np.float32(1 - alpha) + colorize_segments(segment_map, colors) * np.float32(alpha)
    picture = np.where((segment_map > 0)[..., None], mixed.astype(np.uint8), image)
    if alpha > 0:
        picture[segment_borders(segment_map)] = _BORDER
    return picture


def segment_borders(segment_map: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """(H, W) pixels whose right or lower neighbour belongs to another segment: lines one pixel wide, or, of images
    with a short side above 720, as wide as 720 times fit in it."""
    borders = np.zeros(segment_map.shape, np.bool_)
    borders[:, :-1] |= segment_map[:, :-1] != segment_map[:, 1:]
    borders[:-1] |= segment_map[:-1] != segment_map[1:]
    width = round(min(segment_map.shape) / 720)
    return ndimage.maximum_filter(borders, size=width) if width > 1 else borders
