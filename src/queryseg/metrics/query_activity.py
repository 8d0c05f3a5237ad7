"""Which queries speak, how evenly, and whether they repeat each other.

Shape legend: B images, Q queries, K classes, h×w the masks' grid.
"""

from __future__ import annotations

from math import log, nan

import torch
from torch import Tensor

NO_CLASS = -1
"""Stands for no class, where queries are given the class they stand for."""


def normalised_entropy(counts: Tensor) -> float:
    """Entropy of the distribution that counts (M,) ≥ 0 describe, over ln M: 0 where one entry has all, 1 where all have
    the same; nan without any count, and for a single entry."""
    total = float(counts.sum())
    if len(counts) < 2 or total == 0:
        return nan
    return float(torch.special.entr(counts.double() / total).sum()) / log(len(counts))


def overlap_sums(overlaps: Tensor, classes: Tensor) -> Tensor:
    """(2, 2): IoU summed over pairs and number of pairs, of all pairs (row 0) and of those of one class (row 1).

    overlaps (M, M) from `mask_overlaps` of masks with themselves, classes (M,). A pair counts once; pairs of two empty
    masks do not count.
    """
    counted = torch.ones_like(overlaps, dtype=torch.bool).triu(1) & ~overlaps.isnan()
    same = counted & (classes[:, None] == classes)
    return torch.stack([torch.stack([overlaps[pairs].sum(), pairs.sum()]) for pairs in (counted, same)])
