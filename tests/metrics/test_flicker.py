"""Flicker by numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np

from queryseg.metrics.flicker import STEADY, Flicker


def test_by_hand():
    """2×2 pixels: one moves too far (11), three are steady (10 at most), one of which changes its label: 1/3. Then all
    are steady and two change: (1 + 2) / (3 + 4)."""
    flicker = Flicker(stride=1)
    image = np.full((2, 2, 3), 100, np.uint8)
    flicker.update(image, np.array([[0, 0], [1, 1]], np.uint8))
    assert math.isnan(flicker.value)
    later = image.copy()
    later[0, 0, 2] += STEADY + 1
    later[0, 1] -= STEADY
    flicker.update(later, np.array([[1, 1], [1, 1]], np.uint8))
    assert flicker.value == 1 / 3
    flicker.update(later, np.array([[0, 0], [1, 1]], np.uint8))
    assert flicker.value == 3 / 7


def test_another_size_starts_anew():
    flicker = Flicker(stride=1)
    for size in (2, 3):
        flicker.update(np.zeros((size, size, 3), np.uint8), np.full((size, size), size, np.uint8))
    assert flicker.num_steady == 0


def test_stride_looks_at_a_grid():
    """8×8 in steps of 4: pixels (0, 0), (0, 4), (4, 0), (4, 4); only the first changes. A buffer that is reused after
    the call does not change what was seen."""
    flicker, image, labels = Flicker(stride=4), np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    flicker.update(image, labels)
    labels[:4, :4] = 1
    flicker.update(image, labels)
    assert (flicker.num_changed, flicker.num_steady) == (1, 4)
