"""Queries whose positions follow what they looked at.

Shape legend: B images, Q queries, A ≤ Q of them attend, D query width, S cells of a level, h×w its size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Heads
from queryseg.full_precision import at_least_float32, full_precision
from queryseg.ops.layers import MLP, tokens_of
from queryseg.ops.sine_positions import sine_points
from queryseg.queries.learnable import LearnableQueries
from queryseg.types import Dims, Features, Queries, Round

Focus = Literal["attention", "foreground", "anchor", "grid"]


class FocusAwareQueries(LearnableQueries):
    """Dynamic focus-aware positional queries (DFPQ): learned contents, and positions that are made anew after every
    layer, h(A·P + b), from the positional encodings P of the cells where the layer's attention A was, and a learned b.

    num_queries  Q
    focus        what positions are made from. attention: DFPQ; foreground: the mean encoding inside the query's mask;
                 anchor: the centre of that mask, as sines; grid: a point of a fixed grid, as sines, the same for every
                 image and layer. Positions that are merely learned: LearnableQueries(position=True)
    first        where there is no attention yet, the mean encoding of the first mask's background (what the authors'
                 code does) or foreground (what the paper says); focus "attention" only
    std          see LearnableQueries

    h is a two-layer MLP that all layers share. Attention stays in the graph; masks do not. After a layer that gives no
    attention over its level the old positions stay. A query whose mask is empty keeps h(b), with focus "anchor" the
    centre of the image.
    Source: FASeg (CVPR 2023) §3.2, Eq. 2, Table 5; spec §1.
    """

    requires = frozenset({"level_positions", "refinement"})

    def __init__(
        self,
        dims: Dims,
        num_queries: int = 100,
        focus: Focus = "attention",
        first: Literal["background", "foreground"] = "background",
        std: float = 1.0,
    ) -> None:
        super().__init__(dims, num_queries, position=focus != "grid", std=std)
        self.focus, self.first = focus, first
        self.needs_attention = focus == "attention"
        self.adapt = MLP(dims.width, dims.width, dims.width, 2)

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        queries = super().forward(features, heads, like)
        if self.focus != "grid":
            return queries
        number, width = self.content.shape
        position: Tensor = self.adapt(sine_points(grid_points(number, self.content), width))
        return replace(queries, position=position.expand_as(queries.content))

    def refine(self, queries: Queries, round: Round) -> Queries:
        """positions (B, Q, D); those of isolated rows are zero"""
        if self.position is None:
            return queries
        if self.focus == "attention" and round.layer >= 0:
            if round.attention is None or round.positions is None:
                return queries
            seen = weighted(round.attention, round.positions)
        elif self.focus == "anchor":
            seen = sine_points(centres(self._foreground(queries, round)), self.content.shape[1])
        else:
            inside = self._foreground(queries, round)
            if self.focus == "attention" and self.first == "background":
                inside = ~inside
            seen = mean_inside(inside.flatten(2), tokens_of(round.features.positions[round.upcoming]))
        position = self.adapt(seen + self.position)
        return replace(queries, position=F.pad(position, (0, 0, 0, queries.num_isolated)))

    def _foreground(self, queries: Queries, round: Round) -> Tensor:
        """(B, A, h, w) bool: cells of the upcoming level where a query's mask is at least as likely as not"""
        logits = round.prediction.mask_logits[:, : queries.num_attending].detach()
        size = round.features.positions[round.upcoming].shape[-2:]
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits >= 0


def weighted(weights: Tensor, positions: Tensor) -> Tensor:
    """weights (B, A, S) of positions (1 or B, S, D) → (B, A, D), as one matrix product and never in half precision"""
    with full_precision(positions):
        return at_least_float32(weights) @ at_least_float32(positions)


def mean_inside(inside: Tensor, positions: Tensor) -> Tensor:
    """Mean of positions (1 or B, S, D) where inside (B, A, S) bool → (B, A, D); zero where nothing is"""
    share = at_least_float32(inside.to(positions.dtype))
    return weighted(share, positions) / (share.sum(-1, keepdim=True) + 1e-6)


def centres(inside: Tensor) -> Tensor:
    """Mean place of the cells inside (B, A, h, w) bool → (B, A, 2) as (x, y) in [0, 1]; ½ where nothing is"""
    height, width = inside.shape[-2:]
    share = inside.to(torch.float32)
    count = share.sum((-2, -1))
    y = (torch.arange(height, device=inside.device, dtype=share.dtype) + 0.5) / height
    x = (torch.arange(width, device=inside.device, dtype=share.dtype) + 0.5) / width
    sums = torch.stack(((share.sum(-2) * x).sum(-1), (share.sum(-1) * y).sum(-1)), -1)
    return torch.where(count[..., None] > 0, sums / count.clamp(min=1)[..., None], 0.5)


def grid_points(number: int, like: Tensor) -> Tensor:
    """The first `number` places of the smallest nearly square grid that holds as many: (1, number, 2) as (x, y)."""
    rows = max(1, round(number**0.5))
    columns = -(-number // rows)
    index = torch.arange(number, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    x, y = (index % columns + 0.5) / columns, ((index / columns).floor() + 0.5) / rows
    return torch.stack((x, y), -1)[None]
