"""Where the cells of a level lie, as vectors that are added to keys: three ways to say it.

Shape legend: B images, D width, h×w a level.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.full_precision import at_least_float32, full_precision
from queryseg.ops.sine_positions import sine_positions

Encoding = Literal["sine", "learnable", "conditional"]


class SineEncoding(nn.Module):
    """Fixed sines and cosines. Source: DETR; see `sine_positions`."""

    def forward(self, level: Tensor) -> Tensor:
        """level (B, D, h, w), of which only the size counts → (1, D, h, w)"""
        return sine_positions(level)


class LearnableEncoding(nn.Module):
    """A learned vector per row and one per column, half of the width each, resampled to the level's size.

    Source: FASeg Table 3 "learnable absolute", of which the paper gives no shape; rows and columns as in DETR's code.
    """

    NUM_PLACES = 64

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.rand(width // 2, self.NUM_PLACES))
        self.columns = nn.Parameter(torch.rand(width // 2, self.NUM_PLACES))

    def forward(self, level: Tensor) -> Tensor:
        """level (B, D, h, w), of which only the size counts → (1, D, h, w)"""
        height, width = level.shape[-2:]
        rows = F.interpolate(self.rows[None], height, mode="linear", align_corners=False)[..., None]
        columns = F.interpolate(self.columns[None], width, mode="linear", align_corners=False)[..., None, :]
        return torch.cat((rows.expand(-1, -1, -1, width), columns.expand(-1, -1, height, -1)), 1)


class ConditionalEncoding(nn.Conv2d):
    """What a depthwise 3×3 convolution makes of the level: its zero padding tells where the borders are. No residual,
    norm or activation; never in half precision.

    Source: FASeg (CVPR 2023) §3.2, after Conditional Positional Encodings (arXiv 2102.10882); spec §2.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1, groups=width)

    def forward(self, level: Tensor) -> Tensor:
        """level (B, D, h, w) → the same shape"""
        with full_precision(level):
            return super().forward(at_least_float32(level))


def position_encoding(kind: Encoding, width: int) -> nn.Module:
    """The encoding of one level."""
    if kind == "sine":
        return SineEncoding()
    return LearnableEncoding(width) if kind == "learnable" else ConditionalEncoding(width)
