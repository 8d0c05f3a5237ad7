"""Spatter: drops of water or mud on the lens.

Shape legend: images (3, H, W) float32 in 0…1; layers (H, W). Lengths are pixels and do not follow the image's size.

Source: Hendrycks and Dietterich 2019 (arXiv:1903.12261) as packaged in `imagecorruptions` 1.1.2 (Apache-2.0), whose
definitions and constants these are. It calls OpenCV; edges and equalised histograms are written out here. Deviation:
exact Euclidean distances instead of OpenCV's approximation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate, distance_transform_edt, label, sobel, uniform_filter

from queryseg.data.corruptions.blur import smooth
from queryseg.data.corruptions.draws import Draws, Floats


class Spatter(NamedTuple):
    """mean, deviation and smoothing of the noise that drops are made of, the level above which there are drops;
    strength of water, or smoothing of mud's rim; mud instead of water"""

    mean: float
    deviation: float
    sigma: float
    threshold: float
    strength: float
    mud: bool


SPATTER = (
    Spatter(0.65, 0.3, 4.0, 0.69, 0.6, False),
    Spatter(0.65, 0.3, 3.0, 0.68, 0.6, False),
    Spatter(0.65, 0.3, 2.0, 0.68, 0.5, False),
    Spatter(0.65, 0.3, 1.0, 0.65, 1.5, True),
    Spatter(0.67, 0.4, 1.0, 0.65, 1.5, True),
)
WATER = (175, 238, 238)
"""Pale turquoise, RGB."""
MUD = (63, 42, 20)
"""Brown, RGB."""
_WEAK_EDGE, _STRONG_EDGE = 50, 150
_RIM = 20  # pixels from its edge inwards in which a drop refracts
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)


def spatter(image: Floats, constants: Spatter, draws: Draws) -> Floats:
    """Water brightens where it refracts; mud covers."""
    layer = smooth(draws.normal(image.shape[1:], constants.mean, constants.deviation), constants.sigma)
    if constants.mud:
        cover = smooth((layer > constants.threshold).astype(np.float32), constants.strength)
        cover = np.where(cover < 0.8, np.float32(0), cover)
        muddy: Floats = image * (1 - cover) + _colour(MUD) * cover
        return muddy
    drops = (np.clip(np.where(layer < constants.threshold, 0, layer), 0, 1) * 255).astype(np.uint8)
    light = drops * _refraction(drops)
    if not light.any():  # an image so small that no drop hit it
        return image
    wet: Floats = image + _colour(WATER) * (light / light.max() * np.float32(constants.strength))
    return wet


def _refraction(drops: NDArray[np.uint8]) -> Floats:
    """(H, W) levels: brighter on one side of every rim, darker on the other."""
    outside = ~edges(drops)
    distance = distance_transform_edt(outside) if not outside.all() else np.full(drops.shape, _RIM)
    near = uniform_filter(np.minimum(distance, _RIM).astype(np.float32), 3, mode="mirror")
    flat = equalised(near.astype(np.uint8))
    embossed = np.clip(correlate(flat.astype(np.float32), _EMBOSS, mode="mirror"), 0, 255)
    result: Floats = np.rint(uniform_filter(embossed, 3, mode="mirror"))
    return result


def edges(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W) Canny's edges: ridges of the gradient (Sobel, |x| + |y|) above 50 that touch one above 150."""
    down, right = (sobel(pixels.astype(np.float32), axis, mode="nearest") for axis in (0, 1))
    steep = np.abs(down) + np.abs(right)
    height, width = steep.shape
    padded = np.pad(steep, 1)

    def neighbour(rows: int, columns: int) -> Floats:
        return padded[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    def ridge(rows: int, columns: int) -> Any:
        return (steep > neighbour(-rows, -columns)) & (steep >= neighbour(rows, columns))

    flat = np.abs(down) < np.tan(np.pi / 8) * np.abs(right)
    upright = np.abs(down) > np.tan(3 * np.pi / 8) * np.abs(right)
    falling = down * right > 0  # to the right and down, so that the gradient's neighbours lie there
    kept = np.select([flat, upright, falling], [ridge(0, 1), ridge(1, 0), ridge(1, 1)], ridge(1, -1))
    weak = kept & (steep > _WEAK_EDGE)
    parts, _ = label(weak, np.ones((3, 3)))
    strong = np.unique(parts[weak & (steep > _STRONG_EDGE)])
    found: NDArray[np.bool_] = np.isin(parts, strong[strong > 0])
    return found


def equalised(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Levels stretched so that each share of 0…255 holds the same share of pixels; the lowest becomes 0."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    lowest = counts[counts > 0][0]
    if lowest == pixels.size:
        return pixels
    table = np.rint((np.cumsum(counts) - lowest).clip(0) * (255 / (pixels.size - lowest)))
    stretched: NDArray[np.uint8] = table.astype(np.uint8)[pixels]
    return stretched


def _colour(rgb: tuple[int, int, int]) -> Floats:
    return (np.array(rgb, np.float32) / np.float32(255))[:, None, None]
