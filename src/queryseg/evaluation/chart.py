"""Drawings with text, for files and pages. All lengths are in pixels of a page; pictures have twice as many, so that
they are sharp on dense screens."""

from __future__ import annotations

from functools import cache
from math import cos, pi, sin

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int] | tuple[int, int, int, int]
Box = tuple[float, float, float, float]
"""left, top, right, bottom"""

INK, SOFT, LINE, PAPER = (29, 35, 39), (102, 112, 121), (222, 225, 228), (255, 255, 255)
DENSITY = 2
_DRAWN = 4  # drawn larger and reduced: Pillow's shapes have hard edges


class Chart:
    """A white sheet of width × height."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * _DRAWN, height * _DRAWN), PAPER)
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def picture(self) -> Image.Image:
        return self._image.reduce(_DRAWN // DENSITY)

    def text(
        self, x: float, y: float, text: str, size: int = 12, color: Color = INK, anchor: str = "lm", halo: bool = False
    ) -> None:
        """anchor: as in Pillow, horizontal (l, m, r) and vertical (a, m, s); halo: white around the letters."""
        font, stroke = _font(size * _DRAWN), 2 * _DRAWN if halo else 0
        at = (x * _DRAWN, y * _DRAWN)
        self._draw.text(at, text, fill=color, font=font, anchor=anchor, stroke_width=stroke, stroke_fill=PAPER)

    def rectangle(self, box: Box, fill: Color | None = None, outline: Color | None = None) -> None:
        left, top, right, bottom = (round(value * _DRAWN) for value in box)
        if right > left and bottom > top:  # Pillow includes the last row and column
            self._draw.rectangle((left, top, right - 1, bottom - 1), fill, outline, _DRAWN)

    def line(self, box: Box, color: Color = LINE, width: float = 1) -> None:
        self._draw.line([value * _DRAWN for value in box], color, round(width * _DRAWN))

    def disc(self, x: float, y: float, radius: float, fill: Color | None, outline: Color | None = None) -> None:
        box = [(value + sign * radius) * _DRAWN for sign in (-1, 1) for value in (x, y)]
        self._draw.ellipse(box, fill, outline, _DRAWN)

    def star(self, x: float, y: float, radius: float, fill: Color, outline: Color = INK) -> None:
        """Five points, one upwards."""
        corners = [(radius * (1 if i % 2 == 0 else 0.45), i * pi / 5 - pi / 2) for i in range(10)]
        points = [((x + r * cos(a)) * _DRAWN, (y + r * sin(a)) * _DRAWN) for r, a in corners]
        self._draw.polygon(points, fill, outline, _DRAWN)

    def pixels(self, values: npt.NDArray[np.uint8], box: Box) -> None:
        """values (h, w, 3), each a flat rectangle of the box."""
        left, top, right, bottom = (round(value * _DRAWN) for value in box)
        flat = Image.fromarray(values).resize((right - left, bottom - top), Image.Resampling.NEAREST)
        self._image.paste(flat, (left, top))


def text_width(text: str, size: int = 12) -> float:
    """Of a line of text, in pixels of a page."""
    return _font(size * _DRAWN).getlength(text) / _DRAWN


def fitted(text: str, width: float, size: int = 12) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis."""
    kept = text
    while len(kept) > 1 and text_width(kept, size) > width:
        kept = f"{kept.removesuffix('…')[:-1]}…"
    return kept


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font knows little beyond ASCII; DejaVu, which most systems have, knows most alphabets."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
