"""Predictions beside labels, as a picture.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.data.drawing import colorize
from queryseg.evaluation.evaluation import Example

_GAP = 4


def prediction_picture(examples: Sequence[Example], classes: ClassTable, width: int = 384) -> Tensor:
    """image | label | prediction, a row per example: (3, H, W) uint8. width: of each of the three columns, pixels."""
    rows = [_padded(_row(example, classes, width), (0, _GAP)) for example in examples]
    return torch.from_numpy(np.concatenate(rows)[:-_GAP]).permute(2, 0, 1)


def _row(example: Example, classes: ClassTable, width: int) -> npt.NDArray[np.uint8]:
    height = max(1, round(width * example.image.shape[0] / example.image.shape[1]))
    columns = [
        (example.image, Image.Resampling.BILINEAR),
        (colorize(example.label_map, classes), Image.Resampling.NEAREST),
        (colorize(example.prediction, classes), Image.Resampling.NEAREST),
    ]
    small = [np.asarray(Image.fromarray(pixels).resize((width, height), method)) for pixels, method in columns]
    return np.concatenate([small[0], *(_padded(picture, (_GAP, 0), axis=1) for picture in small[1:])], 1)


def _padded(picture: npt.NDArray[np.uint8], gap: tuple[int, int], axis: int = 0) -> npt.NDArray[np.uint8]:
    """White space before and after."""
    widths = [(0, 0)] * 3
    widths[axis] = gap
    return np.pad(picture, widths, constant_values=255)
