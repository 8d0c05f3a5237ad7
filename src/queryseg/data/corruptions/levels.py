"""Between uint8 levels and float values of 0…1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from queryseg.data.corruptions.draws import Floats

_SLACK = 2.0**-10
"""Of a level: more than float32 loses on the way, so that a level that nothing changed stays the same."""


def from_levels(pixels: NDArray[np.uint8]) -> Floats:
    """uint8 → float32 in 0…1."""
    return pixels.astype(np.float32) / np.float32(255)


def to_levels(values: Floats) -> NDArray[np.uint8]:
    """Clipped to 0…1 and rounded down, as the published package does."""
    return (np.clip(values, 0, 1) * np.float32(255) + np.float32(_SLACK)).astype(np.uint8)
