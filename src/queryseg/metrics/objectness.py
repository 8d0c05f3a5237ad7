"""Whether any query outlines what is there, whatever it calls it.

Shape legend: Q queries, K classes, h×w the masks' grid.
"""

from __future__ import annotations

from math import nan

import torch
from torch import Tensor

FOUND = 0.5
"""A region counts as found from this IoU with the best query's mask on, as segments do in panoptic quality."""


def best_overlaps(masks: Tensor, label_map: Tensor, num_classes: int) -> Tensor:
    """(K,) float32: of each class's region, the highest IoU with the mask of any query; nan where the class is absent.

    masks (Q, h, w) bool, label_map (h, w) of any integer type, 255 = ignored, which counts nowhere.
    """
    classes = torch.arange(num_classes, device=label_map.device)
    regions = (label_map.flatten() == classes[:, None]).float()  # counts stay exact: a map has less than 2^24 pixels
    known = (label_map.flatten() < num_classes).float()
    queries = masks.flatten(1).float() * known
    shared, sizes = regions @ queries.T, regions.sum(1)
    union = sizes[:, None] + queries.sum(1) - shared
    best = (shared / union.clamp(min=1)).amax(1) if len(masks) else torch.zeros_like(sizes)
    return torch.where(sizes > 0, best, nan)


def recall(overlaps: Tensor, threshold: float = FOUND) -> Tensor:
    """overlaps (N, K) from `best_overlaps` of N images → (K,) float64 share of a class's regions that were found; nan
    for classes in no image."""
    present = ~overlaps.isnan()
    return ((overlaps >= threshold) & present).double().sum(0) / present.double().sum(0)
