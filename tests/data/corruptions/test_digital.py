"""Colours beside the standard library's HSV, the others beside a plain loop or the file's own header."""

import colorsys
from io import BytesIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Tensor

from queryseg.data.corruptions import corrupt
from queryseg.data.corruptions.digital import (
    BRIGHTNESS,
    CONTRAST,
    ELASTIC_TRANSFORM,
    JPEG_COMPRESSION,
    PIXELATE,
    SATURATE,
    brightness,
    contrast,
    elastic_transform,
    saturate,
)
from queryseg.data.corruptions.draws import Draws

Values = NDArray[np.float32]


def by_hsv(values: Values, change) -> NDArray[np.float64]:
    """Every pixel through HSV. Black has no hue: colorsys and scikit-image agree on red."""
    result = np.empty(values.shape)
    for h in range(values.shape[1]):
        for w in range(values.shape[2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*values[:, h, w].tolist())
            result[:, h, w] = colorsys.hsv_to_rgb(*change(hue, saturation, value))
    return result


@pytest.mark.parametrize("offset", BRIGHTNESS)
def test_brightness_adds_to_the_value(values: Values, offset: float) -> None:
    expected = by_hsv(values, lambda h, s, v: (h, s, min(1, v + offset)))
    assert brightness(values, offset, Draws("")) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("constants", SATURATE)
def test_saturate_changes_the_saturation_alone(values: Values, constants) -> None:
    """Grey becomes reddish at levels 4 and 5, as in the package."""
    expected = by_hsv(values, lambda h, s, v: (h, min(1, s * constants.factor + constants.offset), v))
    assert saturate(values, constants, Draws("")) == pytest.approx(expected, abs=1e-5)


def test_grey_is_tinged_red() -> None:
    grey = torch.full((3, 4, 4), 200, dtype=torch.uint8)
    assert corrupt(grey, "saturate", 5, "x")[:, 0, 0].tolist() == [200, 160, 160]
    assert corrupt(grey, "saturate", 3, "x")[:, 0, 0].tolist() == [200, 200, 200]


@pytest.mark.parametrize("factor", CONTRAST)
def test_contrast_keeps_the_mean_of_every_channel(values: Values, factor: float) -> None:
    result = contrast(values, factor, Draws(""))
    assert result.mean((1, 2)) == pytest.approx(values.mean((1, 2)), abs=1e-5)
    assert result.std((1, 2)) == pytest.approx(factor * values.std((1, 2)), rel=1e-4)


@pytest.mark.parametrize("severity", range(1, 6))
def test_jpeg_has_the_published_quality(image: Tensor, severity: int) -> None:
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=[25, 18, 15, 10, 7][severity - 1])
    assert JPEG_COMPRESSION[severity - 1] == [25, 18, 15, 10, 7][severity - 1]
    decoded = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    assert torch.equal(corrupt(image, "jpeg_compression", severity, "x"), decoded)


def test_pixelate_repeats_means(image: Tensor) -> None:
    """At a quarter of the sides every pixel is the mean of its 4×4 box; Pillow rounds rows, then columns."""
    assert PIXELATE[4] == 0.25
    boxes = image.float().reshape(3, 12, 4, 16, 4).mean((2, 4)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert (corrupt(image, "pixelate", 5, "x").float() - boxes).abs().max() <= 1


@pytest.mark.parametrize("level", [1, 5])
def test_elastic_transform_by_scipy(values: Values, level: int) -> None:
    """The same displacements through scipy.ndimage.map_coordinates, as the package samples."""
    _, height, width = values.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    here = np.stack([columns, rows, rows]) / 100  # an image that says where a pixel came from
    moved = elastic_transform(here, ELASTIC_TRANSFORM[level - 1], Draws("e")) * 100
    inside = np.s_[8:-8, 8:-8]
    came_from = moved[1][inside], moved[0][inside]
    assert np.abs(moved - here * 100)[:, 8:-8, 8:-8].max() > 0.2
    ours = elastic_transform(values, ELASTIC_TRANSFORM[level - 1], Draws("e"))
    for channel in range(3):
        expected = map_coordinates(values[channel], came_from, order=1, mode="reflect")
        assert ours[channel][inside] == pytest.approx(expected, abs=2e-3)


def test_displacements_grow_with_the_height() -> None:
    """Uniform noise of ±0.005 H, smoothed over 1 % of each side: its deviation follows from both."""
    for height, width in ((100, 200), (300, 400)):
        rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (3, height, width)) / 400
        moved = (elastic_transform(rows, 30.0, Draws("e")) - rows)[0, 20:-20, 20:-20] * 400
        sigmas = 0.01 * height * 0.01 * width
        expected = 30 * 0.005 * height / 3**0.5 / (2 * np.pi**0.5 * sigmas**0.5)
        assert moved.std() == pytest.approx(expected, rel=0.2)
