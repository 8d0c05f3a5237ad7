"""Whether any query outlines what is there, whatever it calls it.

Shape legend: Q queries, R regions, K classes, h×w the masks' grid.
"""

from __future__ import annotations

from math import nan

import torch
from torch import Tensor

from queryseg.metrics.mask_overlaps import mask_overlaps

FOUND = 0.5
"""A region counts as found from this IoU with the best query's mask on, as segments do in panoptic quality."""


def best_overlaps(masks: Tensor, region_map: Tensor, num_regions: int) -> Tensor:
    """(R,) float32: of each region, the highest IoU with the mask of any query; nan for regions without a pixel.

    masks (Q, h, w) bool; region_map (h, w) of any integer type, a label map or one of single objects: pixels outside of
    0 … R − 1 count nowhere.
    """
    numbers = torch.arange(num_regions, device=region_map.device)
    regions = region_map == numbers[:, None, None]
    there, known = regions.flatten(1).any(1), (region_map >= 0) & (region_map < num_regions)
    best = (
        mask_overlaps(regions, masks & known).amax(1) if len(masks) else torch.zeros_like(numbers, dtype=torch.float32)
    )
    return torch.where(there, best, nan)


def recall(overlaps: Tensor, threshold: float = FOUND) -> Tensor:
    """overlaps (N, K) from `best_overlaps` of N images → (K,) float64 share of a class's regions that were found; nan
    for classes in no image."""
    present = ~overlaps.isnan()
    return ((overlaps >= threshold) & present).double().sum(0) / present.double().sum(0)
