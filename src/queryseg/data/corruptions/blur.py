"""Blur: defocus, glass, motion, Gaussian; zoom, beyond Cityscapes-C.

Shape legend: images (3, H, W) float32 in 0…1, N = H·W pixels counted row by row. Lengths are pixels and do not follow
the image's size.

Source: Hendrycks and Dietterich 2019 (arXiv:1903.12261) as packaged in `imagecorruptions` 1.1.2 (Apache-2.0), whose
definitions and constants these are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.signal import oaconvolve
from torch.nn.functional import interpolate

from queryseg.data.corruptions.draws import Draws, Floats
from queryseg.data.corruptions.levels import from_levels, to_levels

Integers = NDArray[np.int64]


class Disk(NamedTuple):
    """radius of the disk, sigma of the Gaussian that smooths its rim"""

    radius: int
    sigma: float


class Glass(NamedTuple):
    """sigma of the Gaussian before and after, how far pixels are taken from, how often"""

    sigma: float
    reach: int
    iterations: int


class Motion(NamedTuple):
    """2·radius + 1 pixels of motion; sigma of the half Gaussian that weighs them"""

    radius: int
    sigma: float


class Zoom(NamedTuple):
    """num_factors factors 1, 1 + step, 1 + 2 step …"""

    num_factors: int
    step: float


GAUSSIAN_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Standard deviation."""
DEFOCUS_BLUR = (Disk(3, 0.1), Disk(4, 0.5), Disk(6, 0.5), Disk(8, 0.5), Disk(10, 0.5))
GLASS_BLUR = (Glass(0.7, 1, 2), Glass(0.9, 2, 1), Glass(1.0, 2, 3), Glass(1.1, 3, 2), Glass(1.5, 4, 2))
MOTION_BLUR = (Motion(10, 3.0), Motion(15, 5.0), Motion(15, 8.0), Motion(15, 12.0), Motion(20, 15.0))
ZOOM_BLUR = (Zoom(12, 0.01), Zoom(16, 0.01), Zoom(11, 0.02), Zoom(13, 0.02), Zoom(11, 0.03))
"""As the package's floating-point ranges come out: up to 1.11, 1.15, 1.20, 1.24, 1.30."""


def gaussian_blur(image: Floats, sigma: float, draws: Draws) -> Floats:
    """Cut off at 4 σ, the border repeated."""
    return smooth(image, sigma)


def defocus_blur(image: Floats, disk: Disk, draws: Draws) -> Floats:
    """A disk with a slightly smoothed rim, the image mirrored at its border; by Fourier transforms."""
    kernel = disk_kernel(disk)
    half = len(kernel) // 2
    padded = np.pad(image, ((0, 0), (half, half), (half, half)), mode="reflect")
    result: Floats = oaconvolve(padded, kernel[None], mode="valid", axes=(1, 2))
    return result


def glass_blur(image: Floats, glass: Glass, draws: Draws) -> Floats:
    """Blur, take every pixel from somewhere near, blur again.

    The published loop runs backwards over rows and columns and writes `a, b = b, a` for two pixels of a colour image.
    Those are views of one NumPy array, so that it does not swap: it copies b to a. That is what is reproduced, exactly
    and in the loop's order; `shuffle_sources` tells how without a loop.
    """
    _, height, width = image.shape
    pixels = to_levels(smooth(image, glass.sigma)).reshape(3, -1)
    for _ in range(glass.iterations):
        offsets = draws.integers(-glass.reach, glass.reach, (2, height, width))  # the upper end is left out there, too
        pixels = pixels[:, shuffle_sources(offsets[0], offsets[1], glass.reach)]
    return smooth(from_levels(pixels.reshape(3, height, width)), glass.sigma)


def shuffle_sources(down: Integers, right: Integers, reach: int) -> Integers:
    """(N,) for every pixel the pixel whose old value it ends with.

    The loop `for h from H − reach down to reach + 1, for w likewise: x[h, w] = x[h + down, w + right]` reads a pixel
    that it has already written if that comes later in the image, and an old one otherwise. So every pixel points to
    one other, the chains of pointers end, and doubling them (each pointer becomes its target's pointer) finds all ends
    in about log₂ of the longest chain's steps.

    down, right  (H, W) integers in −reach … reach − 1
    """
    height, width = down.shape
    here = np.arange(height * width).reshape(height, width)
    written = np.zeros((height, width), bool)
    written[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True
    source = np.where(written, here + down * width + right, here).ravel()
    follows = written.ravel()[source] & (source > here.ravel())
    while follows.any():
        at = np.flatnonzero(follows)
        targets = source[at]
        source[at], follows[at] = source[targets], follows[targets]
    return source


def motion_blur(image: Floats, motion: Motion, draws: Draws) -> Floats:
    """Towards a direction of −45° to 45°, weights falling with the distance, the border repeated.

    Deviation: motion longer than the image repeats the border, too (the package drops those weights and darkens).
    """
    return moved(image, motion, draws.number(-45, 45))


def moved(planes: Floats, motion: Motion, degrees: float) -> Floats:
    """(C, H, W) the weighted mean along a line that ends in every pixel: 2·radius + 1 steps of one pixel, each rounded
    to the nearest one."""
    _, height, width = planes.shape
    distance = np.arange(2 * motion.radius + 1)
    weights = np.exp(-(distance**2) / (2 * motion.sigma**2)).astype(np.float32)
    angle = np.deg2rad(degrees)
    rows = np.ceil(distance * np.sin(angle) - 0.5).astype(int)
    columns = np.ceil(distance * np.cos(angle) - 0.5).astype(int)
    reach = len(distance)
    padded = np.pad(planes, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    total, part = np.zeros_like(planes), np.empty_like(planes)
    for down, right, weight in zip(reach + rows, reach + columns, weights / weights.sum(), strict=True):
        np.multiply(padded[:, down : down + height, right : right + width], weight, out=part)
        total += part
    return total


def zoom_blur(image: Floats, zoom: Zoom, draws: Draws) -> Floats:
    """Mean of the image and of its centre enlarged by every factor (by 1 once more, as in the package)."""
    total = image.copy()
    for i in range(zoom.num_factors):
        total += clipped_zoom(image, 1 + i * zoom.step)
    return total / np.float32(zoom.num_factors + 1)


# ───────────────────────────── filters ─────────────────────────────


def smooth(planes: Floats, sigma: float) -> Floats:
    """(…, H, W) Gaussian filter, cut off at 4 σ, the border repeated (scikit-image's `gaussian`)."""
    result: Floats = gaussian_filter(planes, sigma, mode="nearest", truncate=4.0, axes=(-2, -1))
    return result


def disk_kernel(disk: Disk) -> Floats:
    """(17, 17) or, above radius 8, (2·radius + 1)²: a disk, smoothed by 3 or 5 taps of a Gaussian.

    As published, a disk that touches the border of its window (radius 8 and 10) is mirrored there, so that weights do
    not quite add up to 1: the image changes its brightness by up to 1.5 %.
    """
    half, taps = (8, 1) if disk.radius <= 8 else (disk.radius, 2)
    squares = np.arange(-half, half + 1) ** 2
    kernel = (squares[:, None] + squares <= disk.radius**2).astype(np.float64)
    kernel /= kernel.sum()
    rim = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * disk.sigma**2))
    for axis in (0, 1):
        kernel = correlate1d(kernel, rim / rim.sum(), axis, mode="mirror")
    result: Floats = kernel.astype(np.float32)
    return result


def clipped_zoom(planes: Floats, factor: float) -> Floats:
    """(C, H, W) the centre enlarged so that it fills the image."""
    _, height, width = planes.shape
    rows, columns = zoomed_size(height, factor), zoomed_size(width, factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    return enlarge(planes[:, top : top + rows, left : left + columns], factor)[:, :height, :width]


def zoomed_size(side: int, factor: float) -> int:
    """How much of a side fills it when it is enlarged."""
    return int(np.ceil(side / factor))


def enlarge(planes: Floats, factor: float) -> Floats:
    """Linear interpolation that puts corners on corners (`scipy.ndimage.zoom` of order 1)."""
    size = [round(side * factor) for side in planes.shape[1:]]
    contiguous = torch.from_numpy(np.ascontiguousarray(planes))
    result: Floats = interpolate(contiguous[None], size, mode="bilinear", align_corners=True)[0].numpy()
    return result
