"""Queries look at the image, masked by what they predict.

Shape legend: B images, Q queries, A ≤ Q of them attend, S cells of a level, D width, h×w a map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.contracts import Backbone, Decoder, Heads, QuerySource
from queryseg.decoders.mask_heads import MaskHeads
from queryseg.errors import RecipeError
from queryseg.ops.layers import tokens_of
from queryseg.ops.masked_attention import blocked_by
from queryseg.ops.multi_head_attention import MultiHeadAttention
from queryseg.types import Dims, Features, Prediction, Queries, Round


class CrossAttentionLayer(nn.Module):
    """Queries look at pixels, look at each other, and pass a feed-forward layer; every step adds to its input and is
    normed after.

    cross_first: pixels before other queries.
    """

    if TYPE_CHECKING:

        def __call__(
            self,
            queries: Queries,
            keys: Tensor,
            values: Tensor,
            blocked: Tensor | None = None,
            weights: bool = False,
        ) -> tuple[Tensor, Tensor | None]: ...

    def __init__(self, width: int, hidden: int, num_heads: int, cross_first: bool) -> None:
        super().__init__()
        self.cross_first = cross_first
        self.cross_attention = MultiHeadAttention(width, num_heads)
        self.cross_attention_norm = nn.LayerNorm(width)
        self.self_attention = MultiHeadAttention(width, num_heads)
        self.self_attention_norm = nn.LayerNorm(width)
        self.expand, self.reduce = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.expand.weight)
        nn.init.xavier_uniform_(self.reduce.weight)

    def forward(
        self, queries: Queries, keys: Tensor, values: Tensor, blocked: Tensor | None = None, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """keys, values (B, S, D), blocked (B, A, S) bool → content (B, Q, D) and, if `weights`, the attention (B, A, S)
        averaged over heads."""
        x, isolated = queries.content.tensor_split((queries.num_attending,), 1)
        position = None if queries.position is None else queries.position[:, : queries.num_attending]
        if not self.cross_first:
            x = self._among_queries(x, position)
        seen, attention = self.cross_attention(_add(x, position), keys, values, blocked, weights)
        x = self.cross_attention_norm(x + seen)
        if self.cross_first:
            x = self._among_queries(x, position)
        x = torch.cat((x, isolated), 1) if queries.num_isolated else x
        return self.feed_forward_norm(x + self.reduce(F.relu(self.expand(x)))), attention

    def _among_queries(self, x: Tensor, position: Tensor | None) -> Tensor:
        placed = _add(x, position)
        heard, _ = self.self_attention(placed, placed, x)
        return self.self_attention_norm(x + heard)  # type: ignore[no-any-return]


def _add(x: Tensor, position: Tensor | None) -> Tensor:
    return x if position is None else x + position


class CrossAttention(Decoder):
    """Mask2Former's transformer decoder. Layer i reads level i mod L, each query only where its last mask is; what the
    queries say is read before the first layer and after every layer, and all of that is supervised (10 readings).

    num_layers  9: three rounds over three levels
    hidden      width of the feed-forward layers
    threshold   probability below which a mask blocks a cell
    order       cross_first: pixels before other queries (Mask2Former); self_first: the reverse (DETR)
    heads       maker of the heads that read every layer

    Isolated rows pass through the feed-forward layers and the heads alone.
    In eval mode only the last reading is returned, and the masks that block are computed at the size of the level that
    they block: resizing commutes with the product of embedding and feature.
    Source: Mask2Former (arXiv 2112.01527) §3.2.
    """

    provides = frozenset({"isolated_rows", "complete_trunk", "refinement"})
    requires = frozenset({"level_positions"})

    def __init__(
        self,
        dims: Dims,
        num_layers: int = 9,
        hidden: int = 2048,
        num_heads: int = 8,
        threshold: float = 0.5,
        order: Literal["cross_first", "self_first"] = "cross_first",
        heads: Callable[[Dims], Heads] = MaskHeads,
    ) -> None:
        super().__init__()
        if set(dims.channels) != {dims.width}:
            raise RecipeError(
                f"CrossAttention: queries of width {dims.width} cannot read levels of width {dims.channels}; use a "
                "pixel decoder that makes them one width, e.g. Deformable or Projected."
            )
        for name, count in (("num_layers", num_layers), ("hidden", hidden)):
            if count < 1:
                raise RecipeError(f"CrossAttention: {name} is {count}, but must be at least 1.")
        if not 0 < threshold < 1:
            raise RecipeError(f"CrossAttention: threshold is {threshold}, but is a probability: 0 < threshold < 1.")
        self.layers = nn.ModuleList(
            CrossAttentionLayer(dims.width, hidden, num_heads, order == "cross_first") for _ in range(num_layers)
        )
        self.heads = heads(dims)
        self.dims = dims
        self.threshold = threshold

    def forward(
        self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource
    ) -> Sequence[Prediction]:
        readings, queries = self.attend(features, queries, source)
        final = self.heads(queries, features.mask_features)
        return [*readings, final] if self.training else [final]

    def contents(self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource) -> Tensor:
        return self.attend(features, queries, source)[1].content

    def attend(self, features: Features, queries: Queries, source: QuerySource) -> tuple[list[Prediction], Queries]:
        """All layers: the reading before each of them, and the queries after the last."""
        sizes = [(level.shape[-2], level.shape[-1]) for level in features.levels]
        values = [tokens_of(level) for level in features.levels]
        keys = [value + tokens_of(p) for value, p in zip(values, features.positions, strict=True)]
        if self.training:
            mask_features = [features.mask_features] * len(sizes)
        else:
            mask_features = [F.interpolate(features.mask_features, size, mode="bilinear") for size in sizes]

        readings = [self.heads(queries, mask_features[0])]
        queries = source.refine(queries, Round(-1, readings[0], features))
        for index, layer in enumerate(self.layers):
            level = index % len(sizes)
            masks = readings[-1].mask_logits[:, : queries.num_attending]
            blocked = blocked_by(masks, sizes[level], self.threshold)
            content, attention = layer(queries, keys[level], values[level], blocked, source.needs_attention)
            queries = replace(queries, content=content)
            if index + 1 < len(self.layers):
                readings.append(self.heads(queries, mask_features[(index + 1) % len(sizes)]))
                queries = source.refine(queries, Round(index, readings[-1], features, level, attention))
        return readings, queries
