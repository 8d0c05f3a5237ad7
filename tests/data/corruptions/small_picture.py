"""One small picture, made of whole numbers so that it is the same everywhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def picture(height: int, width: int) -> Tensor:
    """(3, H, W) uint8: slopes, a chequered patch, a saturated disc, a grey corner and a black bar."""
    rows, columns = np.mgrid[:height, :width]
    red = 255 * columns // max(1, width - 1)
    green = 40 + 160 * rows // max(1, height - 1)
    blue = (rows * 7 + columns * 13) % 256
    image = np.stack([red, green, blue])
    patch = (rows // 3 + columns // 3) % 2 == 0
    image[:, (rows < height // 2) & (columns > width // 2) & patch] = 230
    disc = (rows - 2 * height // 3) ** 2 + (columns - width // 3) ** 2 < (min(height, width) // 5) ** 2
    image[:, disc] = np.array([[250], [30], [20]])
    image[:, (rows > 3 * height // 4) & (columns > 3 * width // 4)] = 128
    image[:, :, width // 2 : width // 2 + 2] = 0
    return torch.from_numpy(image.astype(np.uint8))
