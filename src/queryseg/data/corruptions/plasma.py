"""Clouds by the diamond-square algorithm.

Shape legend: S×S pixels, S a power of two; the map continues at its opposite borders.
"""

from __future__ import annotations

import numpy as np

from queryseg.data.corruptions.draws import Draws, Floats


def plasma_fractal(size: int, decay: float, draws: Draws) -> Floats:
    """(S, S) from 0 to 1. Each halving of the grid adds uniform noise decay² times as small as the one before.

    size  a power of two, at least 2

    Source: Fournier, Fussell and Carpenter 1982; decay as in `imagecorruptions` 1.1.2, which draws from
    ± wobble, multiplies by wobble and divides wobble by decay at each halving.
    """
    assert size.bit_count() == 1 < size, size
    heights = np.zeros((size, size), np.float32)
    step, amplitude = size, 1.0
    while step >= 2:
        half = step // 2
        shape = (size // step, size // step)
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        centres = (pairs + np.roll(pairs, -1, 1)) / 4 + draws.uniform(shape, -amplitude, amplitude)
        above = centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1)
        beside = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = centres
        heights[::step, half::step] = above / 4 + draws.uniform(shape, -amplitude, amplitude)
        heights[half::step, ::step] = beside / 4 + draws.uniform(shape, -amplitude, amplitude)
        step, amplitude = half, amplitude / decay**2
    heights -= heights.min()
    heights /= heights.max()
    return heights


def plasma_size(height: int, width: int) -> int:
    """The smallest power of two, 2 or more, that covers an image."""
    return max(2, 1 << (max(height, width) - 1).bit_length())
