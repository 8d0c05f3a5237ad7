"""What every candidate is given: so many images of one size.

Shape legend: H×W pixels of a frame, h×w as shown to the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from queryseg.data.streets import render
from queryseg.errors import InputError
from queryseg.inference.engine import Size

_RENDERED = (512, 1024)
"""Streets are drawn at this size and resized: the renderer draws none below 32 pixels."""


@dataclass(frozen=True)
class Workload:
    """size: (h, w) shown to the model; batch: images at once; frame: (H, W) of the decoded images and of the labels,
    None: the shown size.

    Raises: InputError if there is nothing to see
    """

    size: Size
    batch: int = 1
    frame: Size | None = None

    def __post_init__(self) -> None:
        for what, size in (("size", self.size), ("frame", self.frame_size)):
            if min(size) < 1:
                raise InputError(f"The {what} {shown(size)} has no pixels; give height and width.")
        if self.batch < 1:
            raise InputError(f"A batch of {self.batch} holds no image; give at least 1.")

    @property
    def frame_size(self) -> Size:
        return self.frame or self.size

    @property
    def num_pixels(self) -> int:
        """Of one image as shown."""
        return self.size[0] * self.size[1]

    def __str__(self) -> str:
        frame = "" if self.frame_size == self.size else f" of frames {shown(self.frame_size)}"
        return f"{shown(self.size)}{frame}, batch {self.batch}"


def shown(size: Size) -> str:
    """(512, 1024) → "512×1024"."""
    return f"{size[0]}×{size[1]}"


def write_picture(path: Path, size: Size) -> None:
    """A generated street as a JPEG of quality 90: decoding depends on the content, and noise is no street."""
    picture = Image.fromarray(render("clear", 0, 0, _RENDERED).image)
    if size != _RENDERED:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    picture.save(path, "JPEG", quality=90)
