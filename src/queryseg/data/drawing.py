"""Label maps as pictures.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import ImageFont
from torch import Tensor

from queryseg.data.class_table import ClassTable

Pixels = npt.NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PIXELS_TOGETHER = 2**24


def colorize(label_map: Tensor | npt.NDArray[np.integer], classes: ClassTable) -> Pixels:
    """(H, W) labels → (H, W, 3) uint8 in the classes' colours; ignored pixels are black."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = classes.colors

    def painted(labels: Pixels) -> Pixels:
        # take() gathers rows of bytes about three times faster than palette[labels]
        return np.take(palette, labels, 0)

    return _in_parts(painted, _array(label_map))


def overlay(
    image: Tensor | Pixels, label_map: Tensor | npt.NDArray[np.integer], classes: ClassTable, alpha: float = 0.5
) -> Pixels:
    """Image (3, H, W) tensor or (H, W, 3) array, uint8, under the colours of its labels → (H, W, 3) uint8.

    alpha  opacity of the colours; ignored pixels show the image alone
    """
    assert 0 <= alpha <= 1
    picture = _array(image.permute(1, 2, 0)) if isinstance(image, Tensor) else image
    labels = _array(label_map)
    weight = np.zeros(256, np.uint16)
    weight[: len(classes)] = round(alpha * 256)

    def mixed(labels: Pixels, picture: Pixels) -> Pixels:
        opacity = weight.take(labels)[..., None]
        return (picture * (256 - opacity) + colorize(labels, classes) * opacity >> 8).astype(np.uint8)

    return _in_parts(mixed, labels, picture)


def text_font(size: int = 12) -> Font:
    """Pillow's own. size: in pixels, 12 at least: below that its spaces are 2 pixels wide, and words run together."""
    assert size >= 12
    return ImageFont.load_default(size)


class OverlayPainter:
    """`overlay` for videos: tables made once, pictures painted in place. Every pixel must have a class; values differ
    from `overlay` by at most 1, because each of the two summands is rounded.
    """

    def __init__(self, classes: ClassTable, alpha: float = 0.5) -> None:
        assert 0 <= alpha <= 1
        opacity = round(alpha * 256)
        self._halves = opacity == 128
        self._dimmed = (np.arange(256) * (256 - opacity) >> 8).astype(np.uint8)
        self._colors = np.zeros((256, 3), np.uint8)
        self._colors[: len(classes)] = np.asarray(classes.colors) * opacity >> 8

    def __call__(self, image: Pixels, label_map: npt.NDArray[np.uint8]) -> Pixels:
        """image (H, W, 3), changed and returned; label_map (H, W)"""
        if self._halves:
            image >>= 1
        else:  # mode "clip" skips the check of indices, which bytes cannot fail in a table of 256
            np.take(self._dimmed, image, mode="clip", out=image)
        image += self._colors.take(label_map, 0, mode="clip")
        return image


def _in_parts(paint: Callable[..., Pixels], *layers: Pixels) -> Pixels:
    """paint(*layers) → (H, W, 3), of very large pictures some rows at a time: indices and sums take several bytes per
    value."""
    height, width = layers[0].shape[:2]
    rows = max(1, _PIXELS_TOGETHER // width)
    if height <= rows:
        return paint(*layers)
    result = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        result[top : top + rows] = paint(*(layer[top : top + rows] for layer in layers))
    return result


def _array(values: Tensor | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    if isinstance(values, Tensor):
        values = values.to("cpu", torch.uint8).numpy()
    return values.astype(np.uint8, copy=False)
