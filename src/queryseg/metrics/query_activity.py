"""Which queries speak, how evenly, and whether they repeat each other.

Shape legend: B images, Q queries, K classes, h×w the masks' grid.
"""

from __future__ import annotations

from math import log, nan

import torch
from torch import Tensor

NO_CLASS = -1
"""Stands for no class, where queries are given the class they stand for."""

SIGMOID_THRESHOLD = 0.5


def active_classes(class_logits: Tensor, class_scores: Tensor) -> Tensor:
    """(B, Q) int64: the class that each active query stands for by the class head, −1 for the others.

    class_logits (B, Q, K or K+1), class_scores (B, Q, K), as in `Prediction`. With "no object" a query is active if
    that is not its best entry; where classes are independent sigmoids, if its best score is at least 0.5.
    Source: QPrompt-R1's count of activated queries (not assigned to background); the sigmoids' rule is ours.
    """
    scores, classes = class_scores.max(-1)
    if class_logits.shape[-1] > class_scores.shape[-1]:
        active = class_logits.argmax(-1) < class_scores.shape[-1]
    else:
        active = scores >= SIGMOID_THRESHOLD
    return classes.masked_fill(~active, NO_CLASS)


def normalised_entropy(counts: Tensor) -> float:
    """Entropy of the distribution that counts (M,) ≥ 0 describe, over ln M: 0 where one entry has all, 1 where all have
    the same; nan without any count, and for a single entry."""
    total = float(counts.sum())
    if len(counts) < 2 or total == 0:
        return nan
    return float(torch.special.entr(counts.double() / total).sum()) / log(len(counts))


def pair_overlaps(masks: Tensor) -> Tensor:
    """IoU of every two of M masks: (M, h, w) bool → (M, M) float32; nan where both are empty."""
    pixels = masks.flatten(1).float()  # counts stay exact: a map has less than 2^24 pixels
    both, sizes = pixels @ pixels.T, pixels.sum(1)
    return both / (sizes[:, None] + sizes - both)


def overlap_sums(overlaps: Tensor, classes: Tensor) -> Tensor:
    """(2, 2): IoU summed over pairs and number of pairs, of all pairs (row 0) and of those of one class (row 1).

    overlaps (M, M) from `pair_overlaps`, classes (M,). A pair counts once; pairs of two empty masks do not count.
    """
    counted = torch.ones_like(overlaps, dtype=torch.bool).triu(1) & ~overlaps.isnan()
    same = counted & (classes[:, None] == classes)
    return torch.stack([torch.stack([overlaps[pairs].sum(), pairs.sum()]) for pairs in (counted, same)])
