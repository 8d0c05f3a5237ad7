"""Operators on a lit image: snow cover, wet road, haze, rain streaks, snowflakes, glow.

Shape legend: N = H·W pixels, row by row; rgb (3, N) float32, changed in place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from queryseg.data.streets import labels
from queryseg.data.streets.mesh import Colour
from queryseg.data.streets.raster import Floats, Raster

REFERENCE = 256 * 512
"""Pixels of the image that counts of streaks and flakes refer to."""


def haze(rgb: Floats, distance: Floats, extinction: float, air: Floats) -> None:
    """Koschmieder: I·t + A·(1 − t) with t = exp(−β·d), d (N,) metres."""
    clear = np.exp(distance * np.float32(-extinction))
    for c in range(3):
        rgb[c] -= air[c]
        rgb[c] *= clear
        rgb[c] += air[c]


def snow_cover(raster: Raster, noise: Floats, share: float) -> Floats:
    """How white each pixel is, (N,) in [0, 1]: ground (less where wheels and feet pass), leaves, and the top edge of
    whatever stands in front of something farther."""
    faces, height, width = raster.faces, *raster.size
    up = np.where(faces.axis == 1, 1.0, 0.0)
    up[faces.label == labels.ROAD] = 0.62
    up[faces.label == labels.SIDEWALK] *= 0.85
    up[faces.label == labels.VEGETATION] = 0.46
    up[0] = 0
    level = (up * 2.0).astype(np.float32).take(raster.index)
    cover = level * np.float32(share) + noise * np.float32(0.30) - np.float32(0.22)
    cover[level == 0] = 0
    np.clip(cover, 0, 1, out=cover)
    depth = raster.depth.reshape(height, width)
    cover2d = cover.reshape(height, width)
    for rows in (1, 2):  # two pixels of snow on every ledge
        ledge = depth[:-rows] > depth[rows:] * 1.08 + 0.4
        ledge &= depth[rows:] < 45 / rows
        np.maximum(cover2d[rows:], ledge * np.float32(share * (1.15 if rows == 1 else 0.8)), out=cover2d[rows:])
    return np.minimum(cover, 1, out=cover)


def wet_road(rgb: Floats, raster: Raster, reflectance: float) -> None:
    """The road mirrors what stands on it: a pixel is reflected at the lowest row above it that is not road."""
    height, width = raster.size
    road = (raster.faces.label == labels.ROAD)[raster.index].reshape(height, width)
    rows = np.arange(height, dtype=np.int16)[:, None]  # half the memory of int32, and this pass is bound by it
    foot = np.maximum.accumulate(np.where(road, np.int16(0), rows), axis=0)
    pixels = np.flatnonzero(road)
    foot = foot.ravel()[pixels].astype(np.int64)
    row, column = pixels // width, pixels % width
    mirrored = np.maximum(2 * foot - row, 0) * width + column
    # a flat view mirrors more than a steep one (Fresnel), and puddles more than bumps
    near = np.minimum(raster.depth[pixels] * np.float32(1 / 22), 1)
    share = np.float32(reflectance) * (0.35 + 0.65 * near)
    for c in range(3):
        dark = rgb[c][pixels] * np.float32(0.72)
        rgb[c][pixels] = dark + (rgb[c][mirrored] - dark) * share


def _canvas(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (size[1], size[0]), 0)
    return image, ImageDraw.Draw(image)


def _overlay(rgb: Floats, mask: Image.Image, colour: Colour, depth: Floats, behind: float) -> None:
    """Blend a colour over the image by a mask, except where the scene is nearer than `behind` metres."""
    share = np.asarray(mask).ravel()
    pixels = np.flatnonzero(share)
    pixels = pixels[depth[pixels] > behind]
    weight = share[pixels].astype(np.float32) / 255
    for c in range(3):
        rgb[c][pixels] += (np.float32(colour[c]) - rgb[c][pixels]) * weight


def rain_streaks(
    rgb: Floats, depth: Floats, size: tuple[int, int], count: int, colour: Colour, rng: np.random.Generator
) -> None:
    """Streaks in three sheets, 3, 8 and 18 metres away: the farther, the shorter, the fainter and the more."""
    height, width = size
    slant = float(rng.uniform(-0.25, 0.25))
    number = count * height * width / REFERENCE
    for distance, share, strength in ((18.0, 0.55, 60), (8.0, 0.33, 85), (3.0, 0.12, 105)):
        image, draw = _canvas(size)
        n = int(number * share)
        length = height * 0.42 / distance**0.75
        starts = rng.random((n, 3)) * (width, height, 1.0)
        ends = np.stack([starts[:, 0] + slant * length, starts[:, 1] + length * (0.7 + 0.6 * starts[:, 2])], 1)
        lines = np.concatenate([starts[:, :2], ends], 1).tolist()
        thick = max(1, round(height / 256 * 4.5 / distance))
        for line in lines:
            draw.line(line, strength, thick)
        _overlay(rgb, image, colour, depth, distance)


def snowflakes(
    rgb: Floats, depth: Floats, size: tuple[int, int], count: int, colour: Colour, rng: np.random.Generator
) -> None:
    """Flakes in three sheets, 4, 9 and 20 metres away: smaller with distance, hidden by what stands in front."""
    height, width = size
    number = count * height * width / REFERENCE
    for distance, share, strength in ((20.0, 0.55, 150), (9.0, 0.33, 180), (4.0, 0.12, 200)):
        image, draw = _canvas(size)
        n = int(number * share)
        radius = height / 256 * 7.0 / distance
        spots = rng.random((n, 3)) * (width, height, 1.0)
        radii = radius * (0.6 + 0.8 * spots[:, 2])
        boxes = np.stack([spots[:, 0] - radii, spots[:, 1] - radii, spots[:, 0] + radii, spots[:, 1] + 1.3 * radii], 1)
        for box in boxes.tolist():
            draw.ellipse(box, strength)
        if distance < 5:
            image = image.filter(ImageFilter.BoxBlur(1))
        _overlay(rgb, image, colour, depth, distance)


def glow(rgb: Floats, pixels: NDArray[np.int64], light: Floats, size: tuple[int, int]) -> None:
    """Light spills around bright lamps: a wide blur of the light (3, M) of the pixels (M,), added to the image."""
    height, width = size
    rows, columns = -(-height // 4), -(-width // 4)
    cells = (pixels // width) // 4 * columns + (pixels % width) // 4
    small = np.stack([np.bincount(cells, light[c], rows * columns) for c in range(3)], 1) * (255 / 16)
    spread = Image.fromarray(np.minimum(small, 255).astype(np.uint8).reshape(rows, columns, 3))
    spread = spread.filter(ImageFilter.BoxBlur(2)).filter(ImageFilter.BoxBlur(3))
    halo = np.asarray(spread.resize((width, height), Image.Resampling.BILINEAR)).reshape(-1, 3)
    for c in range(3):
        rgb[c] += halo[:, c] * np.float32(0.9 / 255)


def distance_along_rays(raster: Raster, columns: Floats, rows: Floats) -> Floats:
    """Depth along the view (N,) → metres along each ray (N,)."""
    length = np.sqrt(1 + columns * columns + (rows * rows)[:, None]).astype(np.float32)
    return raster.depth * length.ravel()


def covered(rgb: Floats, cover: Floats, white: NDArray[np.float32]) -> None:
    """Blend snow of a given lit colour over surfaces."""
    for c in range(3):
        rgb[c] += (white[c] - rgb[c]) * cover
