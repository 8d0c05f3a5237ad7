"""The one-level Haar transform of a grid of tokens.

Shape legend: B images, h×w an even grid, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def haar(grid: Tensor) -> tuple[Tensor, Tensor]:
    """(B, h, w, C) → low band LL (B, h/2, w/2, C) and high bands LH, HL, HH side by side (B, h/2, w/2, 3·C).

    Orthonormal: lengths and angles stay as they are. LH is the difference between rows, HL between columns.
    """
    batch, height, width, channels = grid.shape
    a, b, c, d = grid.view(batch, height // 2, 2, width // 2, 2, channels).permute(2, 4, 0, 1, 3, 5).flatten(0, 1)
    high = torch.cat([a + b - c - d, a - b + c - d, a - b - c + d], -1)
    return (a + b + c + d) / 2, high / 2


def inverse_haar(low: Tensor, high: Tensor) -> Tensor:
    """What `haar` was given. low (B, h/2, w/2, C), high (B, h/2, w/2, 3·C) → (B, h, w, C)"""
    batch, height, width, channels = low.shape
    lh, hl, hh = high.chunk(3, -1)
    corners = [low + lh + hl + hh, low + lh - hl - hh, low - lh + hl - hh, low - lh - hl + hh]
    grid = torch.stack(corners).view(2, 2, batch, height, width, channels) / 2
    return grid.permute(2, 3, 0, 4, 1, 5).reshape(batch, 2 * height, 2 * width, channels)
