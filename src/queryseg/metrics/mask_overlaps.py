"""How much masks have in common.

Shape legend: M, N masks, h×w their grid.
"""

from __future__ import annotations

from torch import Tensor


def mask_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """IoU of every mask of one set with every one of another: (M, h, w) and (N, h, w) bool → (M, N) float32; nan where
    both are empty."""
    ours, theirs = first.flatten(1).float(), second.flatten(1).float()  # counts stay exact: maps have < 2^24 pixels
    shared = ours @ theirs.T
    return shared / (ours.sum(1)[:, None] + theirs.sum(1) - shared)
