"""What a model says about one image.

Shape legend: K classes, H×W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from queryseg.data.class_table import ClassTable
from queryseg.data.drawing import colorize, overlay
from queryseg.data.label_map import pixels_per_label
from queryseg.errors import InputError

Kind = Literal["labels", "color", "overlay"]


@dataclass(frozen=True)
class Segmentation:
    """Labels of an image at its own size.

    image    (H, W, 3) uint8 RGB, upright
    labels   (H, W) uint8 class indices
    classes  what the indices mean
    scores   (K, H, W) float32, higher is likelier, if they were asked for
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    classes: ClassTable
    scores: npt.NDArray[np.float32] | None = None

    def color(self) -> Image.Image:
        """The labels in the classes' colours."""
        return Image.fromarray(colorize(self.labels, self.classes))

    def overlay(self, alpha: float = 0.5) -> Image.Image:
        """The colours over the image; alpha: their opacity, 0…1."""
        if not 0 <= alpha <= 1:
            raise InputError(f"The overlay's alpha is {alpha}; give a number from 0 (image) to 1 (colours).")
        return Image.fromarray(overlay(self.image, self.labels, self.classes, alpha))

    def share(self) -> dict[str, float]:
        """Class name → share of the image's pixels, in label order, classes that do not occur included."""
        counts = pixels_per_label(torch.from_numpy(self.labels))[: len(self.classes)].tolist()
        return {name: float(n) / self.labels.size for name, n in zip(self.classes.names, counts, strict=True)}

    def save(self, path: str | Path, kind: Kind = "labels") -> None:
        """Write one picture.

        "labels"   8-bit grey PNG whose values are class indices (trainIds): every library reads back the same numbers;
                   of a palette PNG, OpenCV and torchvision return colours. Viewers show it almost black.
        "color"    RGB in the classes' colours
        "overlay"  the colours over the image

        Raises: InputError if the file cannot be written, or would not keep labels exactly
        """
        if kind not in get_args(Kind):
            raise InputError(f"A segmentation is saved as 'labels', 'color' or 'overlay', not as {kind!r}.")
        path = Path(path)
        if kind != "overlay" and path.suffix.lower() != ".png":
            raise InputError(f"'{path}' does not end in .png, and other formats may change labels; save {kind} as PNG.")
        picture = {"labels": lambda: Image.fromarray(self.labels), "color": self.color, "overlay": self.overlay}[kind]()
        try:
            picture.save(path)
        except ValueError as error:  # Pillow knows no such extension
            raise InputError(f"'{path}' has no picture's extension; use .png or .jpg.") from error
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"'{path}' could not be written ({reason}); choose a folder that can.") from error
