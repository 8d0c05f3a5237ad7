"""Reading maps at points, and choosing the points where a mask is undecided.

Shape legend: N maps or groups of maps that share points, C maps of a group, h×w their size, P points.
Points are (x, y) in [0, 1] over the map's whole area, whatever its size, so that masks of one scene at different
resolutions are read at the same places.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of float maps; outside the map is zero.

    maps (N, C, h, w), points (N, P, 2) of the same dtype → (N, C, P), differentiable in both.
    """
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, align_corners=False)[..., 0]


def sample_masks(masks: Tensor, points: Tensor) -> Tensor:
    """`sample_maps` for bool masks: the same values without a float copy of every pixel.

    masks (N, C, h, w) bool, points (N, P, 2) → (N, C, P) of the points' dtype.
    """
    height, width = masks.shape[-2:]
    pixels = masks.flatten(2)
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5  # in pixels; whole numbers are pixel centres
    left, top = x.floor(), y.floor()
    values = points.new_zeros(*masks.shape[:2], points.shape[1])
    for row, row_weight in ((top, top + 1 - y), (top + 1, y - top)):
        for column, column_weight in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
            corner = pixels.gather(2, index[:, None].expand(-1, masks.shape[1], -1))
            values.addcmul_(corner, (row_weight * column_weight * inside)[:, None])
    return values


def uncertain_points(maps: Tensor, candidates: Tensor, num_points: int) -> Tensor:
    """The candidates where a mask logit is nearest to 0, in no particular order.

    maps (N, h, w) logits, candidates (N, S, 2), num_points ≤ S → (N, num_points, 2).
    Source: PointRend (Kirillov et al. 2020) §3.1, uncertainty −|logit|.
    """
    certainty = sample_maps(maps[:, None], candidates)[:, 0].abs()
    chosen = certainty.topk(num_points, dim=1, largest=False, sorted=False).indices
    return candidates.gather(1, chosen[..., None].expand(-1, -1, 2))


def importance_points(maps: Tensor, num_points: int, oversample_ratio: float, importance_ratio: float) -> Tensor:
    """Random points, denser where the masks are undecided; from the global random state.

    maps (N, h, w) logits → (N, num_points, 2): int(importance_ratio · num_points) uncertain ones out of
    int(oversample_ratio · num_points) uniform candidates, the rest uniform.

    Source: PointRend §3.1; Mask2Former (Cheng et al. 2022) §3.3.
    """
    num_uncertain = int(importance_ratio * num_points)

    def uniform(num: int) -> Tensor:
        return torch.rand(len(maps), num, 2, dtype=maps.dtype, device=maps.device)

    uncertain = uncertain_points(maps, uniform(int(oversample_ratio * num_points)), num_uncertain)
    return torch.cat([uncertain, uniform(num_points - num_uncertain)], 1)
