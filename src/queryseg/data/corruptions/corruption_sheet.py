"""One picture of one image under many corruptions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from queryseg.data.corruptions.registry import corrupt
from queryseg.data.drawing import text_font
from queryseg.errors import InputError
from queryseg.types import Sample

_GAP, _CAPTION = 6, 18


def corruption_sheet(
    sample: Sample, corruptions: Sequence[tuple[str, int]], columns: int = 4, width: int = 480
) -> Image.Image:
    """The image as it is, then under each corruption, at its native size before it is shrunk to `width` pixels."""
    if columns < 1 or width < 1:
        raise InputError("A sheet of corruptions needs at least one column and one pixel of width.")
    pictures = [(sample.name, sample.image)]
    pictures += [(f"{name} {level}", corrupt(sample.image, name, level, sample.name)) for name, level in corruptions]
    _, rows, row_pixels = sample.image.shape
    width = min(width, row_pixels)
    height = max(1, round(width * rows / row_pixels))
    columns = min(columns, len(pictures))
    cell = (width + _GAP, height + _CAPTION + _GAP)
    num_rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, num_rows * cell[1] + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), text_font()
    for i, (title, image) in enumerate(pictures):
        left, top = _GAP + i % columns * cell[0], _GAP + i // columns * cell[1]
        draw.text((left, top), title, fill="black", font=font)
        sheet.paste(_shrunk(image, (width, height)), (left, top + _CAPTION))
    return sheet


def _shrunk(image: Tensor, size: tuple[int, int]) -> Image.Image:
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
