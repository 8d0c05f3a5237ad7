"""How far masks are from target masks, read at P points.

Shape legend: N matched pairs, B images, Q queries, M targets, P points.
Logits are real numbers, targets are in [0, 1] (bilinear readings of binary masks). Every function returns one number
per mask or pair; the criterion sums and normalises.

Source: Mask2Former (Cheng et al. 2022) §3.3 and its public code: binary cross-entropy and the dice loss of V-Net
(Milletari et al. 2016), smoothed by 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision → float32, float64 stays: sums over thousands of points need the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mask_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, P), (N, P) → (N,) mean over points of −y·log σ(x) − (1−y)·log(1−σ(x))"""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)


def mask_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, P), (N, P) → (N,) 1 − (2·Σ σ(x)·y + 1) / (Σ σ(x) + Σ y + 1)"""
    scores = logits.sigmoid()
    return 1 - (2 * (scores * targets).sum(-1) + 1) / (scores.sum(-1) + targets.sum(-1) + 1)


def pairwise_mask_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """`mask_bce` of every query with every target: (B, Q, P), (B, M, P) → (B, Q, M)

    As softplus(x) − x·y, so that the pairs meet in one matrix product.
    """
    # exact in float64 and twice as fast as F.softplus, which turns linear above 20
    softplus = torch.logaddexp(logits, logits.new_zeros(()))
    return softplus.mean(-1)[..., None] - logits @ targets.mT / logits.shape[-1]


def pairwise_mask_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """`mask_dice` of every query with every target: (B, Q, P), (B, M, P) → (B, Q, M)"""
    scores = logits.sigmoid()
    sums = scores.sum(-1)[..., None] + targets.sum(-1)[:, None]
    return 1 - (2 * scores @ targets.mT + 1) / (sums + 1)
