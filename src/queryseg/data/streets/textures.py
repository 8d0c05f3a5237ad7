"""Materials as numbers: noise, and a grid of cells (windows, tiles, slats) in the surface's own metres.

Every surface is shaded by one rule, colour = (inside a cell ? cell colour : colour) × (1 + amplitude × noise), so that
a whole image needs one pass however many materials it holds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TILE = 256
"""Side of the noise tile, a power of two: texture coordinates wrap by masking bits."""


class Material(NamedTuple):
    """amplitude and frequency (noise cells per metre) of the noise; period (metres; 0 = no grid line that way), duty
    (share of the period inside the cell) and phase of the grid along the surface (u) and up or away (v); lit: cells are
    windows that may be lit at night."""

    amplitude: float = 0.05
    frequency: float = 20.0
    period_u: float = 0.0
    duty_u: float = 2.0
    period_v: float = 0.0
    duty_v: float = 2.0
    phase_v: float = 0.0
    lit: bool = False


_CATALOGUE: dict[str, Material] = {
    "plain": Material(),
    "asphalt": Material(0.13, 17.0),
    "paving": Material(0.10, 15.0, 1.0, 0.93, 1.0, 0.93),
    "grass": Material(0.26, 18.0),
    "leaf": Material(0.42, 15.0),
    "ballast": Material(0.22, 15.0, 0.0, 2.0, 0.8, 0.7),
    "blocks": Material(0.10, 7.0, 0.9, 0.92, 0.42, 0.87),
    "panels": Material(0.08, 5.0, 2.6, 0.95, 0.0, 2.0),
    "slats": Material(0.08, 9.0, 0.40, 0.45, 0.0, 2.0),
    "mesh": Material(0.06, 9.0, 0.50, 0.76, 0.50, 0.76),
    "ribs": Material(0.05, 6.0, 0.55, 0.86, 0.0, 2.0),
    "glazing": Material(0.08, 4.0, 1.45, 0.90, 0.0, 2.0, 0.0, True),
    "shop": Material(0.08, 5.0, 4.2, 0.78, 3.7, 0.66, -0.13, True),
    "render": Material(0.08, 4.0),
    "windows_tall": Material(0.08, 4.0, 2.6, 0.42, 3.3, 0.56, -0.24, True),
    "windows_wide": Material(0.08, 4.0, 3.6, 0.62, 3.1, 0.46, -0.30, True),
    "windows_dense": Material(0.08, 4.0, 1.7, 0.56, 2.9, 0.60, -0.22, True),
    "windows_band": Material(0.06, 4.0, 0.0, 2.0, 3.2, 0.44, -0.30, True),
    "windows_brick": Material(0.16, 8.0, 3.0, 0.38, 3.5, 0.50, -0.26, True),
    "windows_small": Material(0.14, 6.0, 2.2, 0.34, 2.7, 0.42, -0.30, True),
}
MATERIALS: dict[str, int] = {name: index for index, name in enumerate(_CATALOGUE)}
"""Material name → index, as faces store it."""


class MaterialTable(NamedTuple):
    """Columns of the catalogue, one row per material, as float32; grid lines that do not exist have rate 0."""

    amplitude: NDArray[np.float32]
    frequency: NDArray[np.float32]
    rate_u: NDArray[np.float32]
    duty_u: NDArray[np.float32]
    rate_v: NDArray[np.float32]
    duty_v: NDArray[np.float32]
    phase_v: NDArray[np.float32]
    lit: NDArray[np.bool_]


@lru_cache(maxsize=1)
def material_table() -> MaterialTable:
    """The catalogue as arrays, one row per material."""
    rows = np.array([tuple(map(float, material)) for material in _CATALOGUE.values()], np.float32).T
    amplitude, frequency, period_u, duty_u, period_v, duty_v, phase_v, lit = rows

    def rate(period: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(period > 0, 1 / np.maximum(period, 1e-6), 0).astype(np.float32)

    return MaterialTable(amplitude, frequency, rate(period_u), duty_u, rate(period_v), duty_v, phase_v, lit > 0)


def _smooth(rng: np.random.Generator, sigma: float) -> NDArray[np.float32]:
    field = ndimage.gaussian_filter(rng.random((TILE, TILE)) - 0.5, sigma, mode="wrap")
    return np.asarray(field / field.std(), np.float32)


@lru_cache(maxsize=1)
def surface_noise() -> NDArray[np.float32]:
    """(TILE·TILE,) float32, wraps in both directions, mean 0, mostly within ±1: grains, patches and stains at once."""
    rng = np.random.Generator(np.random.PCG64(11))
    field = 0.30 * _smooth(rng, 0.5) + 0.22 * _smooth(rng, 1.5) + 0.16 * _smooth(rng, 5.0) + 0.10 * _smooth(rng, 18.0)
    return np.asarray(np.clip(field, -1.2, 1.2), np.float32).ravel()


@lru_cache(maxsize=1)
def cloud_noise() -> NDArray[np.float32]:
    """(TILE·TILE,) float32 in [0, 1], wraps: cloud cover."""
    rng = np.random.Generator(np.random.PCG64(12))
    field = 1.0 * _smooth(rng, 20.0) + 0.5 * _smooth(rng, 9.0) + 0.25 * _smooth(rng, 4.0) + 0.1 * _smooth(rng, 1.5)
    return np.asarray(np.clip(0.5 + 0.3 * field, 0, 1), np.float32).ravel()


@lru_cache(maxsize=8)
def grain(height: int, width: int) -> NDArray[np.float32]:
    """(height + 64, width + 64) float32 sensor noise of standard deviation 1; an image takes one window of it."""
    rng = np.random.Generator(np.random.PCG64(13))
    return rng.standard_normal((height + 64, width + 64), dtype=np.float32)
