"""Noise: Gaussian, shot, impulse, speckle.

Shape legend: images (3, H, W) float32 in 0…1. Every value of every channel draws for itself.

Source: Hendrycks and Dietterich 2019 (arXiv:1903.12261) as packaged in `imagecorruptions` 1.1.2 (Apache-2.0), whose
definitions and constants these are; the random numbers are our own.
"""

from __future__ import annotations

import numpy as np
from scipy.special import pdtr

from queryseg.data.corruptions.draws import Draws, Floats

GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation."""
SHOT_NOISE = (60.0, 25.0, 12.0, 5.0, 3.0)
"""Photons that a white pixel counts on average."""
IMPULSE_NOISE = (0.03, 0.06, 0.09, 0.17, 0.27)
"""Share of values that become black or white."""
SPECKLE_NOISE = (0.15, 0.2, 0.35, 0.45, 0.6)
"""Standard deviation, as a share of the value."""


def gaussian_noise(image: Floats, deviation: float, draws: Draws) -> Floats:
    """x + σ n. Pixels draw independently, so halving an image averages σ down to a half: see docs/corruptions.md."""
    return image + draws.normal(image.shape, deviation=deviation)


def shot_noise(image: Floats, photons: float, draws: Draws) -> Floats:
    """Poisson(c x) / c, by the inverse of the distribution function of each of the 256 levels."""
    levels = np.rint(image * 255).astype(np.uint8).ravel()
    chance = (draws.bits(levels.shape) + 0.5) * 2.0**-32
    order = np.argsort(levels, kind="stable")  # level by level: 256 short tables instead of one search per value
    ends = np.cumsum(np.bincount(levels, minlength=256))
    counts = np.arange(int(photons + 10 * photons**0.5) + 20)  # beyond them lie less than 2⁻³²
    result = np.empty(levels.shape, np.float32)
    for level in np.unique(levels):
        there = order[ends[level - 1] if level else 0 : ends[level]]
        result[there] = np.searchsorted(pdtr(counts, photons * level / 255), chance[there])
    return result.reshape(image.shape) / np.float32(photons)


def impulse_noise(image: Floats, amount: float, draws: Draws) -> Floats:
    """Salt and pepper: half of the chosen values become 1, half 0."""
    chance = draws.uniform(image.shape)
    return np.where(chance < amount / 2, np.float32(0), np.where(chance < amount, np.float32(1), image))


def speckle_noise(image: Floats, deviation: float, draws: Draws) -> Floats:
    """x + x σ n."""
    return image + image * draws.normal(image.shape, deviation=deviation)
