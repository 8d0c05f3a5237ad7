"""Positions of the cells of a map as sines and cosines.

Shape legend: C channels, h×w a grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_positions(x: Tensor) -> Tensor:
    """Where the cells of a map lie, in as many channels: x (any, C, h, w) → (1, C, h, w) of its dtype and device.

    C (a multiple of 4): one half for y, then one for x. Cell i of n lies at 2π (i + 1) / n; even channels are sines,
    odd ones cosines, of wavelengths that grow geometrically from 2π to 10000 · 2π.

    Source: DETR (arXiv 2005.12872) §A.4 in the form that Mask2Former uses, positions normalised to 2π.
    """
    channels, height, width = x.shape[1:]
    dtype = torch.promote_types(x.dtype, torch.float32)  # bfloat16 cannot count beyond 256

    def along(length: int) -> Tensor:
        place = torch.arange(1, length + 1, dtype=dtype, device=x.device) / (length + 1e-6)
        return _waves(place, channels // 2)

    rows = along(height)[:, None].expand(-1, width, -1)
    columns = along(width)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), 2).permute(2, 0, 1)[None].to(x.dtype)


def sine_points(points: Tensor, channels: int) -> Tensor:
    """The same for any places: points (…, 2) as (x, y) in [0, 1] → (…, C)."""
    x, y = points.unbind(-1)
    return torch.cat((_waves(y, channels // 2), _waves(x, channels // 2)), -1)


def sine_boxes(boxes: Tensor, channels: int) -> Tensor:
    """The same for boxes: (…, 4) as (cx, cy, w, h) in [0, 1] → (…, 2·channels), a quarter each for cy, cx, w, h.

    Source: DAB-DETR (arXiv 2201.12329) §4.1.
    """
    cx, cy, width, height = boxes.unbind(-1)
    return torch.cat([_waves(place, channels // 2) for place in (cy, cx, width, height)], -1)


def _waves(place: Tensor, num_waves: int) -> Tensor:
    """place (…) in [0, 1] → (…, num_waves), sines and cosines in turns"""
    pair = torch.arange(num_waves, dtype=place.dtype, device=place.device) // 2
    angles = place[..., None] * 2 * math.pi / 10000 ** (2 * pair / num_waves)
    return torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), -1).flatten(-2)
