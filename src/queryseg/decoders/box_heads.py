"""Class, mask and box of a query.

Shape legend: B images, Q queries, D query width, E mask-embedding width, h×w a map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from queryseg.decoders.mask_heads import MaskHeads
from queryseg.full_precision import at_least_float32, full_precision
from queryseg.ops.layers import MLP
from queryseg.types import Dims, Prediction, Queries


class BoxHeads(MaskHeads):
    """`MaskHeads` with K independent sigmoids, and a box: an MLP says by how much the query's reference box moves, in
    logits. One MLP for every reading; its last layer begins at zero, so that boxes begin as their references.

    norm, activation  see `MaskHeads`

    Queries without a reference predict the box itself (DETR). Boxes are never in half precision.
    Source: SimCIS (CVPR 2025) as its code has it, spec §1; the paper does not mention boxes.
    """

    def __init__(self, dims: Dims, norm: bool = True, activation: Literal["relu", "gelu"] = "relu") -> None:
        super().__init__(dims, norm, activation, "sigmoid")
        self.box_embed = MLP(dims.width, dims.width, 4, 3)
        last = self.box_embed.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.provides |= {"boxes"}

    def boxes(self, content: Tensor, reference: Tensor) -> Tensor:
        """content (B, Q, D), reference (B, Q, 4) logits → (B, Q, 4) as (cx, cy, w, h) in [0, 1]"""
        with full_precision(content):
            return torch.sigmoid(self.box_embed(at_least_float32(content)) + reference)

    def forward(self, queries: Queries, mask_features: Tensor) -> Prediction:
        content = queries.content
        reference = content.new_zeros(*content.shape[:2], 4) if queries.boxes is None else queries.boxes
        return replace(super().forward(queries, mask_features), boxes=self.boxes(content, reference))
