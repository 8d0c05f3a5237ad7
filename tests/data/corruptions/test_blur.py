"""Every blur beside a plain loop that follows the published definition."""

from math import ceil, cos, exp, radians, sin

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import zoom as scipy_zoom

from queryseg.data.corruptions.blur import (
    DEFOCUS_BLUR,
    GLASS_BLUR,
    MOTION_BLUR,
    ZOOM_BLUR,
    Motion,
    defocus_blur,
    disk_kernel,
    gaussian_blur,
    glass_blur,
    motion_blur,
    moved,
    shuffle_sources,
    smooth,
    zoom_blur,
)
from queryseg.data.corruptions.draws import Draws
from queryseg.data.corruptions.levels import to_levels


def clamp(index: int, length: int) -> int:
    return min(max(index, 0), length - 1)


@pytest.mark.parametrize("sigma", [1.0, 6.0])
def test_gaussian_blur_by_loops(values: NDArray[np.float32], sigma: float) -> None:
    """Separable, 4 σ to either side, the border repeated."""
    radius = int(4 * sigma + 0.5)
    taps = [exp(-(i**2) / (2 * sigma**2)) for i in range(-radius, radius + 1)]
    expected = values.astype(np.float64)
    for axis in (1, 2):
        length = expected.shape[axis]
        shifted = [
            expected.take([clamp(i + d, length) for i in range(length)], axis) for d in range(-radius, radius + 1)
        ]
        expected = sum(tap * part for tap, part in zip(taps, shifted, strict=True)) / sum(taps)
    assert gaussian_blur(values, sigma, Draws("")) == pytest.approx(expected, abs=1e-5)


def shuffle_by_loops(pixels: NDArray[np.uint8], down, right, reach: int) -> NDArray[np.uint8]:
    """(H, W, 3). The published loop with its own exchange, which copies because pixels of an array are views."""
    x = pixels.copy()
    height, width, _ = x.shape
    for h in range(height - reach, reach, -1):
        for w in range(width - reach, reach, -1):
            there = h + down[h, w], w + right[h, w]
            x[h, w], x[there] = x[there], x[h, w]
    return x


@pytest.mark.parametrize("shape", [(23, 31), (9, 10), (5, 40), (2, 3), (1, 1)])
@pytest.mark.parametrize("reach", [1, 2, 4])
def test_shuffled_pixels_equal_the_published_loop(shape: tuple[int, int], reach: int) -> None:
    """Exactly, pixel by pixel, in the loop's order, with the loop's own random numbers."""
    random = np.random.default_rng(reach)
    pixels = random.integers(0, 256, (*shape, 3), np.uint8)
    down, right = random.integers(-reach, reach, (2, *shape))
    ours = pixels.reshape(-1, 3)[shuffle_sources(down, right, reach)].reshape(*shape, 3)
    assert (ours == shuffle_by_loops(pixels, down, right, reach)).all()


def test_long_chains_of_shuffled_pixels() -> None:
    """All pixels of a row take the one to their right, which was taken before: one pixel fills the row."""
    down, right = np.zeros((8, 50), int), np.ones((8, 50), int)
    source = shuffle_sources(down, right, 2).reshape(8, 50)
    assert (source[4, 3:49] == 4 * 50 + 49).all()
    assert (source[4, :3] == 4 * 50 + np.arange(3)).all()


@pytest.mark.parametrize("level", [1, 3, 5])
def test_glass_blur_equals_the_published_loop(values: NDArray[np.float32], level: int) -> None:
    constants = GLASS_BLUR[level - 1]
    draws = Draws("glass")
    pixels = to_levels(smooth(values, constants.sigma)).transpose(1, 2, 0)
    for _ in range(constants.iterations):
        down, right = draws.integers(-constants.reach, constants.reach, (2, *values.shape[1:]))
        pixels = shuffle_by_loops(pixels, down, right, constants.reach)
    expected = smooth(pixels.transpose(2, 0, 1).astype(np.float32) / 255, constants.sigma)
    assert glass_blur(values, constants, Draws("glass")) == pytest.approx(expected, abs=1e-6)


def roll_by_loops(values: NDArray[np.float32], motion: Motion, degrees: float) -> NDArray[np.float64]:
    """The published motion blur: the image moved by whole pixels, its border repeated, and weighed."""
    _, height, width = values.shape
    taps = 2 * motion.radius + 1
    weights = [exp(-(i**2) / (2 * motion.sigma**2)) for i in range(taps)]
    total = np.zeros(values.shape)
    for i, weight in enumerate(weights):
        dy = -ceil(i * sin(radians(degrees)) - 0.5)
        dx = -ceil(i * cos(radians(degrees)) - 0.5)
        for h in range(height):
            for w in range(width):
                total[:, h, w] += weight / sum(weights) * values[:, clamp(h - dy, height), clamp(w - dx, width)]
    return total


@pytest.mark.parametrize(("level", "degrees"), [(1, 30.0), (5, -44.0), (3, -100.0)])
def test_motion_blur_by_loops(values: NDArray[np.float32], level: int, degrees: float) -> None:
    motion = MOTION_BLUR[level - 1]
    ours = moved(values, motion, degrees)
    assert ours == pytest.approx(roll_by_loops(values, motion, degrees), abs=1e-5)


def test_motion_goes_up_to_45_degrees() -> None:
    """A dot becomes a line from the dot on, of the kernel's length."""
    dot = np.zeros((3, 101, 101), np.float32)
    dot[:, 50, 50] = 1
    angles = []
    for key in "abcdefghijkl":
        rows, columns = np.nonzero(motion_blur(dot, MOTION_BLUR[4], Draws(key))[0] > 1e-4)
        assert np.hypot(rows - 50, columns - 50).max() == pytest.approx(40, abs=1)
        assert columns.max() == 50
        far = columns.argmin()
        angles.append(np.degrees(np.arctan2(rows[far] - 50, 50 - columns[far])))
    assert max(np.abs(angles)) <= 46
    assert np.ptp(angles) > 40


@pytest.mark.parametrize("level", range(1, 6))
def test_defocus_is_a_mean_over_a_disk(values: NDArray[np.float32], level: int) -> None:
    disk = DEFOCUS_BLUR[level - 1]
    kernel = disk_kernel(disk)
    assert kernel.sum() == pytest.approx(1, abs=1e-6 if disk.radius in (3, 4, 6) else 0.02)
    assert (kernel > 0.5 * kernel.max()).sum() == pytest.approx(np.pi * disk.radius**2, rel=0.12)
    half = len(kernel) // 2
    padded = np.pad(values, ((0, 0), (half, half), (half, half)), mode="reflect")
    _, height, width = values.shape
    expected = np.empty_like(values)
    for h in range(height):
        for w in range(width):
            window = padded[:, h : h + len(kernel), w : w + len(kernel)]
            expected[:, h, w] = (window * kernel).sum((1, 2))
    assert defocus_blur(values, disk, Draws("")) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("level", range(1, 6))
def test_zoom_blur_by_scipy(values: NDArray[np.float32], level: int) -> None:
    """The published factors as its `arange` makes them, enlarged by scipy.ndimage.zoom."""
    stop, step = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)][level - 1]
    factors = np.arange(1, stop, step)
    assert len(factors) == ZOOM_BLUR[level - 1].num_factors
    _, height, width = values.shape
    total = values.astype(np.float64)
    for factor in factors:
        rows, columns = ceil(height / factor), ceil(width / factor)
        top, left = (height - rows) // 2, (width - columns) // 2
        part = values[:, top : top + rows, left : left + columns]
        total += scipy_zoom(part, (1, factor, factor), order=1)[:, :height, :width]
    assert zoom_blur(values, ZOOM_BLUR[level - 1], Draws("")) == pytest.approx(total / (len(factors) + 1), abs=1e-4)
