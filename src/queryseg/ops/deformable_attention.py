"""Attention to a few learned places around every cell, on several maps at once.

Shape legend: B images, N rows that look, S cells of all maps, L maps, G heads, P points per head and map, D width,
h×w the size of one map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from queryseg.errors import RecipeError
from queryseg.ops.point_sampling import sample_maps

Sizes = Sequence[tuple[int, int]]
"""(h, w) of every map."""


def deformable_attention(values: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear readings; outside a map is zero.

    values     (B, S, G, D/G), maps one after another, each row by row
    locations  (B, N, G, L, P, 2) as (x, y) in [0, 1] over the whole area of a map
    weights    (B, N, G, L, P)
    returns    (B, N, D)

    Source: Deformable DETR (arXiv 2010.04159) Eq. 3, on `grid_sample`: it needs no kernel of its own and exports.
    """
    batch, rows, heads, _, points = weights.shape
    total = values.new_zeros(batch * heads, values.shape[3], rows)
    for level, value in enumerate(torch.split(values, [height * width for height, width in sizes], 1)):
        maps = value.permute(0, 2, 3, 1).reshape(batch * heads, -1, *sizes[level])
        places = locations[:, :, :, level].transpose(1, 2).reshape(batch * heads, rows * points, 2)
        share = weights[:, :, :, level].transpose(1, 2).reshape(batch * heads, 1, rows, points)
        total = total + (sample_maps(maps, places).view(*total.shape, points) * share).sum(-1)
    return total.view(batch, -1, rows).transpose(1, 2)


class Cells:
    """Where the cells of several maps lie.

    centres  (S, 2) as (x, y) in [0, 1]
    extents  (L, 2) width and height of one cell
    At least float32: half precision would round cells onto each other.
    """

    def __init__(self, sizes: Sizes, like: Tensor) -> None:
        self.sizes = sizes
        dtype = torch.promote_types(like.dtype, torch.float32)
        centres, extents = [], []
        for height, width in sizes:
            y = (torch.arange(height, dtype=dtype, device=like.device) + 0.5) / height
            x = (torch.arange(width, dtype=dtype, device=like.device) + 0.5) / width
            centres.append(torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), -1).flatten(0, 1))
            # filled on the device: a tensor made from numbers would wait for everything that runs there
            extents.append(torch.cat((x.new_full((1,), 1 / width), x.new_full((1,), 1 / height))))
        self.centres, self.extents = torch.cat(centres), torch.stack(extents)


class DeformableAttention(nn.Module):
    """Every cell of L maps looks at P points per head and map around itself, at offsets that it chooses, counted in
    cells of the map looked at. At first each head looks along a direction of its own, its points 1 … P cells away, all
    weighing the same.

    Source: Deformable DETR §4.1 and its initialisation, as Mask2Former uses it.
    """

    def __init__(self, width: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise RecipeError(f"width {width} cannot be split among {num_heads} heads; choose a multiple of num_heads.")
        self.shape = (num_heads, num_levels, num_points)
        num_samples = math.prod(self.shape)
        self.offsets = nn.Linear(width, 2 * num_samples)
        self.weights = nn.Linear(width, num_samples)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        angles = torch.arange(num_heads) * (2 * math.pi / num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        distances = torch.arange(1, num_points + 1)[None, None, :, None]
        offsets = (directions[:, None, None] * distances).expand(-1, num_levels, -1, -1)
        with torch.no_grad():
            self.offsets.bias.copy_(offsets.flatten())
        for zero in (self.offsets.weight, self.weights.weight, self.weights.bias, self.value.bias, self.out.bias):
            nn.init.zeros_(zero)
        nn.init.xavier_uniform_(self.value.weight)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, x: Tensor, position: Tensor, cells: Cells) -> Tensor:
        """x (B, S, D) all maps, position (1 or B, S, D) → (B, S, D)"""
        heads, levels, points = self.shape
        looking = x + position
        offsets = self.offsets(looking).unflatten(2, (heads, levels, points, 2))
        locations = cells.centres[:, None, None, None] + offsets * cells.extents[:, None]
        weights = self.weights(looking).unflatten(2, (heads, levels * points)).softmax(-1)
        weights = weights.unflatten(3, (levels, points)).to(locations.dtype)
        values = self.value(x).unflatten(2, (heads, -1)).to(locations.dtype)
        read = deformable_attention(values, cells.sizes, locations, weights)
        return self.out(read.to(x.dtype))  # type: ignore[no-any-return]
