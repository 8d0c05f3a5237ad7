"""Weather: snow, fog, frost (spatter: `spatter.py`).

Shape legend: images (3, H, W) float32 in 0…1.

Source: Hendrycks and Dietterich 2019 (arXiv:1903.12261) as packaged in `imagecorruptions` 1.1.2 (Apache-2.0), whose
definitions and constants these are. Snow is measured in pixels; the clouds of fog and the textures of frost grow with
the image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from queryseg.data.corruptions.blur import Motion, enlarge, moved, zoomed_size
from queryseg.data.corruptions.draws import Draws, Floats
from queryseg.data.corruptions.frost_texture import FROSTS, frost_texture
from queryseg.data.corruptions.plasma import plasma_fractal, plasma_size


class Snow(NamedTuple):
    """mean and deviation of the noise that flakes are made of, their size, the level below which there is none, radius
    and sigma of their motion, share of the old colours (the rest is whitened)"""

    mean: float
    deviation: float
    zoom: float
    threshold: float
    radius: int
    sigma: float
    share: float


class Fog(NamedTuple):
    """brightness of the fog, how fast its clouds lose detail"""

    brightness: float
    decay: float


class Frosting(NamedTuple):
    """weight of the image, weight of the texture"""

    image: float
    texture: float


SNOW = (
    Snow(0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    Snow(0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    Snow(0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    Snow(0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    Snow(0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
FOG = (Fog(1.5, 2.0), Fog(2.0, 2.0), Fog(2.5, 1.7), Fog(2.5, 1.5), Fog(3.0, 1.4))
FROST = (
    Frosting(1.0, 0.4),
    Frosting(0.8, 0.6),
    Frosting(0.7, 0.7),
    Frosting(0.65, 0.7),
    Frosting(0.6, 0.75),
)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def snow(image: Floats, constants: Snow, draws: Draws) -> Floats:
    """A whitened image under enlarged noise above a threshold, moved downwards; once as it is, once turned by 180°."""
    _, height, width = image.shape
    size = (1, zoomed_size(height, constants.zoom), zoomed_size(width, constants.zoom))
    noise = draws.normal(size, constants.mean, constants.deviation)
    flakes = enlarge(noise, constants.zoom)[:, :height, :width]
    flakes = np.clip(np.where(flakes < constants.threshold, np.float32(0), flakes), 0, 1)
    flakes = moved(flakes, Motion(constants.radius, constants.sigma), draws.number(-135, -45))
    flakes = np.rint(flakes * np.float32(255)) / np.float32(255)
    grey = np.tensordot(_LUMA, image, 1)
    white = np.maximum(image, grey * np.float32(1.5) + np.float32(0.5))
    covered = np.float32(constants.share) * image + np.float32(1 - constants.share) * white
    return np.asarray(covered + flakes + flakes[:, ::-1, ::-1], np.float32)


def fog(image: Floats, constants: Fog, draws: Draws) -> Floats:
    """Clouds over the image, both darkened so that its largest value stays."""
    _, height, width = image.shape
    clouds = plasma_fractal(plasma_size(height, width), constants.decay, draws)[:height, :width]
    largest = image.max()
    thick = np.float32(constants.brightness)
    result: Floats = (image + thick * clouds) * (largest / (largest + thick))
    return result


def frost(image: Floats, constants: Frosting, draws: Draws) -> Floats:
    """A part of a frost texture, enlarged to at least 1.1 × the image, over the darkened image."""
    _, height, width = image.shape
    texture = frost_texture(draws.integer(0, len(FROSTS)))
    _, rows, columns = texture.shape
    scale = 1.1 * max(1.0, height / rows, width / columns)
    top = draws.integer(0, int(np.ceil(rows * scale)) - height) / scale
    left = draws.integer(0, int(np.ceil(columns * scale)) - width) / scale
    box = (left, top, min(columns, left + width / scale), min(rows, top + height / scale))
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC, box) for plane in texture]
    ice = np.clip(np.stack([np.asarray(plane) for plane in planes]), 0, 1)
    result: Floats = np.float32(constants.image) * image + np.float32(constants.texture) * ice
    return result
