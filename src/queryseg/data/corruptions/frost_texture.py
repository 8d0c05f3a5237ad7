"""Frost: feathery crystals on cloudy ice, grown by rule.

Shape legend: textures (3, H, W) float32 in 0…1; N crystals of T places along the spine, 2 sides, U places along a barb.

The published package lays photographs of frozen windows over images. These textures replace them: a deviation. Mean
and deviation of every channel are those of the five photographs that the package chooses from, so that the veil is as
strong.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from queryseg.data.corruptions.draws import Draws, Floats
from queryseg.data.corruptions.plasma import plasma_fractal, plasma_size

Colour = tuple[float, float, float]


class Frost(NamedTuple):
    """size of the texture; number of large crystals, their length in pixels, that of their barbs (a share of it), the
    sigma that softens them; what the brightness of the crystals, their relief in slanting light and the clouds behind
    contribute; mean and deviation of R, G, B"""

    size: tuple[int, int]
    num_crystals: int
    length: int
    barbs: float
    sigma: float
    crystals: float
    relief: float
    clouds: float
    mean: Colour
    deviation: Colour


FROSTS = (
    Frost((600, 900), 700, 120, 0.25, 0.63, 0.3, 0.9, 1.1, (0.30, 0.58, 0.65), (0.11, 0.06, 0.06)),
    Frost((315, 560), 420, 90, 0.25, 0.72, 1.0, 0.5, 0.4, (0.79, 0.81, 0.84), (0.08, 0.09, 0.09)),
    Frost((315, 560), 300, 120, 0.35, 0.72, 1.0, 0.6, 0.5, (0.79, 0.81, 0.84), (0.08, 0.09, 0.09)),
    Frost((350, 527), 260, 60, 0.45, 0.4, 0.8, 0.6, 0.8, (0.54, 0.60, 0.65), (0.11, 0.11, 0.12)),
    Frost((495, 660), 420, 80, 0.40, 0.44, 1.0, 0.3, 0.5, (0.44, 0.48, 0.53), (0.17, 0.17, 0.16)),
)
"""Sizes, means and deviations: facts about the package's photographs, as is the contrast of neighbouring pixels, which
sigma sets (within a tenth). The rest: by eye."""
_GENERATIONS = ((1, 1.0, 1.0), (5, 0.4, 0.75), (20, 0.16, 0.5))
"""Crystals grow in three sizes: times as many, times as long, times as bright as the large ones."""


@lru_cache(len(FROSTS))
def frost_texture(number: int) -> Floats:
    """One of `FROSTS`: the same for every image, in every process. Kept, for growing takes longer than using."""
    frost = FROSTS[number]
    draws = Draws("frost texture", number)
    height, width = frost.size
    ice = np.zeros(frost.size, np.float32)
    for times, shorter, light in _GENERATIONS:
        crystals = _crystals(frost, times * frost.num_crystals, max(6.0, shorter * frost.length), draws)
        ice = np.maximum(ice, np.float32(light) * crystals)
    ice = gaussian_filter(ice, frost.sigma)
    relief = ice - np.roll(ice, (1, 1), (0, 1))
    side = plasma_size(height, width)
    clouds = plasma_fractal(side, 1.5, draws)[:height, :width]
    picture = frost.crystals * _standard(ice) + frost.relief * _standard(relief) + frost.clouds * _standard(clouds)
    picture = _standard(np.tanh(0.5 * _standard(picture)))
    mean, deviation = (np.array(colour, np.float32)[:, None, None] for colour in (frost.mean, frost.deviation))
    texture: Floats = np.clip(mean + deviation * picture, 0, 1)
    texture.setflags(write=False)
    return texture


def _crystals(frost: Frost, num: int, longest: float, draws: Draws) -> Floats:
    """(H, W) brightness of the ice, 0 where there is none: spines that start in fans from common seeds, with barbs at
    60° on both sides; the brightest crystal hides the others."""
    height, width = frost.size
    seeds = draws.integers(0, max(1, num // 4), (num,))
    places = draws.uniform((2, num))[:, seeds] * np.array([[height], [width]], np.float32)
    angle = draws.uniform((num,), 0, 2 * np.pi)[seeds] + draws.uniform((num,), -1.3, 1.3)
    length = longest * draws.uniform((num,), 0.3, 1.0)
    bend = draws.uniform((num,), -0.5, 0.5)

    along = np.linspace(0, 1, int(longest / 2) + 1, dtype=np.float32)
    heading = angle[:, None] + bend[:, None] * along
    step = length[:, None] / len(along)
    rows = places[0][:, None] + np.cumsum(step * np.sin(heading), 1)
    columns = places[1][:, None] + np.cumsum(step * np.cos(heading), 1)

    jitter = draws.uniform((num, len(along), 2), 0.4, 1.0)
    reach = frost.barbs * length[:, None, None] * (1 - along[:, None]) * jitter
    out = np.linspace(0, 1, int(frost.barbs * longest * 1.5) + 2, dtype=np.float32)
    turned = heading[..., None] + np.array([np.pi / 3, -np.pi / 3], np.float32)
    barb_rows = rows[..., None, None] + (reach * np.sin(turned))[..., None] * out
    barb_columns = columns[..., None, None] + (reach * np.cos(turned))[..., None] * out
    light = draws.uniform((num, 1, 2, 1), 0.25, 1.0) * (1 - np.float32(0.6) * out)  # each side of a spine has its own

    cells = np.floor(barb_rows).astype(np.int64) % height * width + np.floor(barb_columns).astype(np.int64) % width
    ice = np.zeros(height * width, np.float32)
    np.maximum.at(ice, cells.ravel(), np.broadcast_to(light, cells.shape).ravel())
    return ice.reshape(frost.size)


def _standard(plane: Floats) -> Floats:
    result: Floats = (plane - plane.mean()) / plane.std()
    return result
