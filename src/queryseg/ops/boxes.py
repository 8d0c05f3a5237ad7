"""Boxes around masks, and how much boxes overlap.

Shape legend: N boxes, H×W pixels. A box is (cx, cy, w, h), in [0, 1] of the canvas.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

_EPS = 1e-6
"""Added to the areas that generalised IoU divides by, as in the public code of DETR's successors."""


def mask_corners(masks: Tensor) -> Tensor:
    """Tight boxes around masks (N, H, W) bool → (N, 4) int64, the pixels (left, top, right, bottom), the last two
    behind the mask; zeros for an empty mask.

    torchvision's `masks_to_boxes` waits for the device once per mask and refuses empty ones.
    """
    top, bottom = _ends(masks.any(2))
    left, right = _ends(masks.any(1))
    return torch.stack((left, top, right, bottom), -1)


def _ends(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First place and the one behind the last, of (N, L) bool; 0 and 0 where there is none."""
    length = occupied.shape[1]
    places = torch.arange(length, device=occupied.device)
    behind = torch.where(occupied, places + 1, 0).amax(1)
    return torch.where(occupied, places, length).amin(1).minimum(behind), behind


def boxes_of_corners(corners: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """(N, 4) pixels (left, top, right, bottom) → (N, 4) boxes; size: the height and width that count as 1"""
    height, width = size
    sides = torch.tensor((width, height, width, height), dtype=dtype, device=corners.device)
    return box_convert(corners.to(dtype) / sides, "xyxy", "cxcywh")  # type: ignore[no-any-return]


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """(…, 4), (…, 4), shapes that broadcast → (…) in [−1, 1], differentiable.

    Equals torchvision's `generalized_box_iou_loss` (as 1 − loss), which picks overlapping pairs by index and so waits
    for the device, and whose pairwise sibling keeps its divisors as they are.
    Source: Rezatofighi et al. 2019, Generalized Intersection over Union.
    """
    a, b = box_convert(first, "cxcywh", "xyxy"), box_convert(second, "cxcywh", "xyxy")
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return shared / (union + _EPS) - (hull - union) / (hull + _EPS)  # type: ignore[no-any-return]


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logits of x in [0, 1], kept within those of eps and 1 − eps."""
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()
