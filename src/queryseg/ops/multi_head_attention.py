"""Attention with several heads, some places blocked.

Shape legend: B images, Q rows that look, S rows that are looked at, D width, G heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.errors import RecipeError
from queryseg.full_precision import at_least_float32, full_precision


class MultiHeadAttention(nn.Module):
    """Fused attention unless the weights are asked for. Batch first; weights and their initialisation as in
    nn.MultiheadAttention, whose masks must be repeated for every head.

    bias: of the projections of queries, keys and values; the last one always has one.
    """

    if TYPE_CHECKING:

        def __call__(
            self,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            blocked: Tensor | None = None,
            weights: bool = False,
        ) -> tuple[Tensor, Tensor | None]: ...

    in_proj_bias: Tensor | None

    def __init__(self, width: int, num_heads: int, bias: bool = True) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise RecipeError(f"width {width} cannot be split among {num_heads} heads; choose a multiple of num_heads.")
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.register_parameter("in_proj_bias", nn.Parameter(torch.zeros(3 * width)) if bias else None)
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def projections(self) -> list[tuple[Tensor, Tensor | None]]:
        """Matrix and bias for queries, for keys, for values."""
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return list(zip(self.in_proj_weight.chunk(3), biases, strict=True))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """query (B, Q, D), key and value (B, S, D), blocked (B, Q or 1, S) bool: what a row must not see (not
        everything).

        Returns (B, Q, D) and, if `weights`, the attention weights (B, Q, S), averaged over heads, in the graph; scores
        and weights are never in half precision.
        """
        query, key, value = (
            F.linear(x, matrix, bias).view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
            for x, (matrix, bias) in zip((query, key, value), self.projections(), strict=True)
        )
        visible = None if blocked is None else ~blocked[:, None]
        attention = None
        if weights:
            with full_precision(query):
                scaled = at_least_float32(query) * query.shape[-1] ** -0.5
                scores = scaled @ at_least_float32(key).transpose(-1, -2)
                each = (scores if visible is None else scores.masked_fill(~visible, -torch.inf)).softmax(-1)
                attention = each.mean(1)
            out = each.to(value.dtype) @ value
        else:
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return self.out_proj(out.transpose(1, 2).flatten(2)), attention
