"""Resizing of learned tables with nothing but matrix products, which every runtime computes alike.

Shape legend: a table of H×W entries of width C becomes one of h×w.
"""

from __future__ import annotations

import torch
from torch import Tensor

_A = -0.5
"""Of the cubic kernel: Pillow's, which torch uses where it antialiases (elsewhere −0.75)."""


def resample_table(table: Tensor, size: tuple[int, int]) -> Tensor:
    """(…, H, W, C) → (…, h, w, C), antialiased bicubic, in float32 or better; the dtype comes back.

    Equals `F.interpolate(mode="bicubic", antialias=True, align_corners=False)`. ONNX Runtime has that operation;
    OpenVINO reads its file and computes another one.
    """
    kind = table.dtype
    wide = table if kind == torch.float64 else table.float()
    rows = cubic_weights(wide.shape[-3], size[0], wide)
    columns = cubic_weights(wide.shape[-2], size[1], wide)
    resized = torch.einsum("yh,...hwc->...ywc", rows, wide)
    return torch.einsum("xw,...ywc->...yxc", columns, resized).to(kind)


def cubic_weights(length: int, new_length: int, like: Tensor) -> Tensor:
    """(new_length, length): row i weighs the old entries around the place of new entry i; rows sum to 1.

    Source: Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981, stretched by the scale where
    entries become fewer, as Pillow does; entries beyond the ends are left out.
    """
    steps = torch.arange(new_length, device=like.device, dtype=like.dtype)
    scale = length / (steps[-1] + 1)  # a tensor, because a graph of dynamic size has no number here
    stretch = scale.clamp(min=1)
    places = (steps + 0.5) * scale
    old = torch.arange(length, device=like.device, dtype=like.dtype) + 0.5
    x = ((old - places[:, None]) / stretch).abs()
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return weights / weights.sum(1, keepdim=True)
