"""Queries that are pixels of the image.

Shape legend: B images, N selected queries, Q ≥ N queries, S pixels of all levels, K classes, D query width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from queryseg.contracts import Heads, QuerySource
from queryseg.errors import RecipeError
from queryseg.full_precision import at_least_float32, full_precision
from queryseg.ops.boxes import inverse_sigmoid
from queryseg.ops.layers import MLP, tokens_of
from queryseg.ops.sine_positions import sine_boxes
from queryseg.types import Dims, Features, Queries, Round

AnchorScale = Literal["inverted", "normal"]

FIRST_BOXES = "first_boxes"
"""Entry of `Queries.extras`: (B, N, 4) boxes in [0, 1] that the first layer is told instead of the first reading's."""

_FULL = 1e4
"""The box logit of pixels without an anchor: its sigmoid is exactly 1, as infinity's, which not every runtime reads."""


class PixelSelectedQueries(QuerySource):
    """Query pre-alignment: of all pixels that the decoder reads, the best-classified become queries. The decoder's own
    class layer ranks them, so that its rows are the prototypes of classes.

    num_queries          N; where the image has fewer pixels, all of them
    anchor_scale         sides of the boxes that pixels begin with, 0.05 · 2^l of the image. inverted: l = 0 is the
                         coarsest level (the authors' code); normal: the finest (Deformable DETR)
    mask_invalid_scores  pixels so near the border that their box begins outside of (0.01, 0.99) are never selected.
                         Off in the authors' code: they are read as zeros, all alike, and may be selected

    The choice is not differentiable and never made in half precision. What is chosen is read twice: by the heads in
    the graph, which trains the class layer and the features, and by the decoder without gradient. A query's position is
    made before every layer from the box that it predicted last, also without gradient: an MLP of the box as sines,
    scaled by an MLP of the content.

    extras: selected_indices (B, N) int64, pixels of the levels one after the other, best first.

    Source: SimCIS (CVPR 2025) §4.1, Eq. 1–2; spec §1. The code projects and norms pixels before they become queries
    and has the class layer as prototypes, where the paper says pixels and one vector per class.
    """

    provides = frozenset({"selected_indices"})
    requires = frozenset({"boxes", "refinement", "sigmoid_classes"})

    def __init__(
        self,
        dims: Dims,
        num_queries: int = 100,
        anchor_scale: AnchorScale = "inverted",
        mask_invalid_scores: bool = False,
    ) -> None:
        super().__init__()
        width = dims.width
        if num_queries < 1:
            raise RecipeError(f"PixelSelectedQueries: num_queries is {num_queries}, but must be at least 1.")
        if set(dims.channels) != {width}:
            raise RecipeError(
                f"PixelSelectedQueries: pixels of width {dims.channels} cannot become queries of width {width}; use a "
                "pixel decoder that makes them one width, e.g. Deformable or Projected."
            )
        self.num_queries, self.anchor_scale, self.mask_invalid_scores = num_queries, anchor_scale, mask_invalid_scores
        self.project, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.box_position, self.position_scale = MLP(2 * width, width, width, 2), MLP(width, width, width, 2)

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        """like: its pixels are taken, and no others are looked at."""
        with full_precision(features.mask_features):  # in half precision too many pixels tie
            anchors, valid = self.anchors(features.levels)
            pixels = at_least_float32(torch.cat([tokens_of(level) for level in features.levels], 1))
            pixels = pixels.masked_fill(~valid, 0.0)
            if like is None:
                index = self.select(heads.classify(self.norm(self.project(pixels))), valid)
            else:
                index = like.extras["selected_indices"]
            # once more for the few that were chosen, which spares the backward pass all others
            content = self.norm(self.project(pixels.gather(1, index[..., None].expand(-1, -1, pixels.shape[-1]))))
            return Queries(content, boxes=anchors[index], extras={"selected_indices": index})

    def select(self, logits: Tensor, valid: Tensor) -> Tensor:
        """logits (B, S, K), valid (S, 1) bool → (B, N) int64, by the best of all classes, seen or not"""
        scores = logits.amax(-1)
        if self.mask_invalid_scores:
            scores = scores.masked_fill(~valid[:, 0], torch.finfo(scores.dtype).min)
        return scores.topk(min(self.num_queries, scores.shape[1]), dim=1).indices

    def anchors(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (S, 4) of the boxes (cx, cy, w, h) that pixels begin with, and which pixels have one, (S, 1) bool."""
        boxes = []
        for index, level in enumerate(levels):
            height, width = level.shape[-2:]
            scale = index if self.anchor_scale == "inverted" else len(levels) - 1 - index
            dtype = torch.promote_types(level.dtype, torch.float32)
            y = (torch.arange(height, device=level.device, dtype=dtype) + 0.5) / height
            x = (torch.arange(width, device=level.device, dtype=dtype) + 0.5) / width
            grid = torch.meshgrid(y, x, indexing="ij")
            side = torch.full_like(grid[0], 0.05 * 2**scale)
            boxes.append(torch.stack((grid[1], grid[0], side, side), -1).flatten(0, 1))
        anchors = torch.cat(boxes)
        valid = ((anchors > 0.01) & (anchors < 0.99)).all(-1, keepdim=True)
        return torch.logit(anchors).masked_fill(~valid, _FULL), valid

    def refine(self, queries: Queries, round: Round) -> Queries:
        """Boxes become those of the reading, positions follow; before the first layer contents leave the graph."""
        content = queries.content.detach() if round.layer < 0 else queries.content
        assert round.prediction.boxes is not None
        boxes = round.prediction.boxes.detach()
        if round.layer < 0:
            boxes = queries.extras.get(FIRST_BOXES, boxes)
        position = self.position_scale(content) * self.box_position(sine_boxes(boxes, content.shape[-1]))
        return replace(queries, content=content, position=position, boxes=inverse_sigmoid(boxes))
