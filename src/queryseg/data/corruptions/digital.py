"""Digital: brightness, contrast, saturate, JPEG; elastic transform and pixelate, beyond Cityscapes-C.

Shape legend: images (3, H, W) float32 in 0…1.

Source: Hendrycks and Dietterich 2019 (arXiv:1903.12261) as packaged in `imagecorruptions` 1.1.2 (Apache-2.0), whose
definitions and constants these are.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn.functional import grid_sample

from queryseg.data.corruptions.draws import Draws, Floats
from queryseg.data.corruptions.levels import from_levels, to_levels


class Saturation(NamedTuple):
    """saturation × factor + offset"""

    factor: float
    offset: float


BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Added to HSV's value."""
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
"""Factor of the distance from the channel's mean."""
SATURATE = (
    Saturation(0.3, 0.0),
    Saturation(0.1, 0.0),
    Saturation(2.0, 0.0),
    Saturation(5.0, 0.1),
    Saturation(20.0, 0.2),
)
JPEG_COMPRESSION = (25, 18, 15, 10, 7)
"""Quality."""
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
"""Factor of the sides."""
ELASTIC_TRANSFORM = (12.5, 16.25, 21.25, 25.0, 30.0)
"""Factor of the smoothed displacements."""


def brightness(image: Floats, offset: float, draws: Draws) -> Floats:
    """HSV's value is the largest channel; with hue and saturation kept, all channels grow as it does."""
    value = image.max(0)
    brighter = np.minimum(value + np.float32(offset), 1)
    grown = image * (brighter / np.maximum(value, np.float32(1e-6)))
    result: Floats = np.where(value > 0, grown, brighter)
    return result


def contrast(image: Floats, factor: float, draws: Draws) -> Floats:
    """Towards each channel's mean over the image."""
    mean = image.mean((1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    result: Floats = (image - mean) * np.float32(factor) + mean
    return result


def saturate(image: Floats, saturation: Saturation, draws: Draws) -> Floats:
    """HSV's saturation is (V − min) / V; with hue and value kept, every channel's distance from V grows as it does.

    Grey has hue 0, which is red: an offset tinges it, here as in the package.
    """
    value = image.max(0)
    distance = value - image.min(0)
    old = distance / np.maximum(value, np.float32(1e-6))
    new = np.clip(old * np.float32(saturation.factor) + np.float32(saturation.offset), 0, 1)
    coloured = value - (value - image) * (new / np.maximum(old, np.float32(1e-6)))
    tinged = value * np.stack([np.ones_like(new), 1 - new, 1 - new])
    result: Floats = np.where(distance > 0, coloured, tinged)
    return result


def jpeg_compression(image: Floats, quality: int, draws: Draws) -> Floats:
    """Through a JPEG file with Pillow's other settings (colours at half size)."""
    file = BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    return _planes(Image.open(file))


def pixelate(image: Floats, factor: float, draws: Draws) -> Floats:
    """Reduced by means over boxes, enlarged by repetition."""
    _, height, width = image.shape
    size = max(1, int(width * factor)), max(1, int(height * factor))
    small = _picture(image).resize(size, Image.Resampling.BOX)
    return _planes(small.resize((width, height), Image.Resampling.NEAREST))


def elastic_transform(image: Floats, strength: float, draws: Draws) -> Floats:
    """Every pixel is taken from somewhere near: uniform displacements, smoothed over 1 % of each side and amplified.

    Labels stay, as in the package. Displacements grow with the image's height. Deviation: none but float32.
    """
    _, height, width = image.shape
    largest = 0.005 * height
    moves = draws.uniform((2, height, width), -largest, largest)
    sigmas = (0.01 * height, 0.01 * width)
    moves = gaussian_filter(moves, sigmas, mode="reflect", truncate=3.0, axes=(1, 2)) * np.float32(strength)
    columns = np.arange(width, dtype=np.float32) + moves[0]
    rows = np.arange(height, dtype=np.float32)[:, None] + moves[1]
    grid = np.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    warped: Floats = grid_sample(
        torch.from_numpy(np.ascontiguousarray(image))[None],
        torch.from_numpy(grid.astype(np.float32, copy=False))[None],
        padding_mode="reflection",
        align_corners=False,
    )[0].numpy()
    return warped


def _picture(image: Floats) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(to_levels(image).transpose(1, 2, 0)))


def _planes(picture: Image.Image) -> Floats:
    return from_levels(np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1)))
