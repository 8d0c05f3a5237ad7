"""Masks that restrict attention.

Shape legend: B images, Q queries, h×w a map, S = h·w cells.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def blocked_by(mask_logits: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Cells of another map where a query's mask is less probable than `threshold`; a query without any other cell sees
    all of them. No gradient.

    mask_logits (B, Q, any height, any width), size (h, w) → (B, Q, S) bool, 0 < threshold < 1.

    Source: Mask2Former (arXiv 2112.01527) §3.2.1, Eq. 3.
    """
    logits = mask_logits.detach()
    if logits.shape[-2:] != size:
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    blocked = (logits < math.log(threshold / (1 - threshold))).flatten(2)
    return blocked & ~blocked.all(-1, keepdim=True)
