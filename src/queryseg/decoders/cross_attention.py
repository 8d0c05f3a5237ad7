"""Queries look at the image, masked by what they predict.

Shape legend: B images, Q queries, A ≤ Q of them attend, S cells of a level, D width, h×w a map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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


class Memory:
    """The levels as tokens, values (B, S, D) and positions (1 or B, S, D); their keys are added up when first read."""

    def __init__(self, features: Features) -> None:
        self.sizes = [(level.shape[-2], level.shape[-1]) for level in features.levels]
        self.values = [tokens_of(level) for level in features.levels]
        self.positions = [tokens_of(position) for position in features.positions]
        self._keys: dict[int, Tensor] = {}

    def keys(self, level: int) -> Tensor:
        """(B, S, D)"""
        if level not in self._keys:
            self._keys[level] = self.values[level] + self.positions[level]
        return self._keys[level]


@dataclass(frozen=True)
class Seen:
    """What one layer lets queries look at.

    keys, values  (B, S, D)
    positions     (1 or B, S, D) encodings of the same cells
    blocked       (B, A or 1, S) bool, or None
    looking       (B, A, D) positions with which queries look, or None: their own
    pixels        (B, S) which cells of the level these are, or None: all of them, in order
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    blocked: Tensor | None = None
    looking: Tensor | None = None
    pixels: Tensor | None = None


class CrossAttentionLayer(nn.Module):
    """Queries look at pixels, look at each other, and pass a feed-forward layer; every step adds to its input and is
    normed after.

    cross_first: pixels before other queries.
    """

    if TYPE_CHECKING:

        def __call__(
            self,
            queries: Queries,
            seen: Seen,
            weights: bool = False,
        ) -> tuple[Tensor, Tensor | None]: ...

    def __init__(
        self,
        width: int,
        hidden: int,
        num_heads: int,
        cross_first: bool,
        cross_attention: type[MultiHeadAttention] = MultiHeadAttention,
    ) -> None:
        super().__init__()
        self.cross_first = cross_first
        self.cross_attention = cross_attention(width, num_heads)
        self.cross_attention_norm = nn.LayerNorm(width)
        self.self_attention = MultiHeadAttention(width, num_heads)
        self.self_attention_norm = nn.LayerNorm(width)
        self.expand, self.reduce = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.expand.weight)
        nn.init.xavier_uniform_(self.reduce.weight)

    def forward(self, queries: Queries, seen: Seen, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Content (B, Q, D) and, if `weights`, the attention (B, A, S) averaged over heads."""
        x, isolated = queries.content.tensor_split((queries.num_attending,), 1)
        position = None if queries.position is None else queries.position[:, : queries.num_attending]
        looking = position if seen.looking is None else seen.looking
        if not self.cross_first:
            x = self._among_queries(x, position)
        found, attention = self.cross_attention(_add(x, looking), seen.keys, seen.values, seen.blocked, weights)
        x = self.cross_attention_norm(x + found)
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
    threshold   probability below which a mask blocks a cell; None: nothing is blocked
    order       cross_first: pixels before other queries (Mask2Former); self_first: the reverse (DETR)
    heads       maker of the heads that read every layer

    Isolated rows pass through the feed-forward layers and the heads alone.
    In eval mode only the last reading is returned, and the masks that block are computed at the size of the level that
    they block: resizing commutes with the product of embedding and feature.
    Source: Mask2Former (arXiv 2112.01527) §3.2.
    """

    provides = frozenset({"isolated_rows", "complete_trunk", "positions_read", "refinement"})
    requires = frozenset({"level_positions"})

    def __init__(
        self,
        dims: Dims,
        num_layers: int = 9,
        hidden: int = 2048,
        num_heads: int = 8,
        threshold: float | None = 0.5,
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
        if threshold is not None and not 0 < threshold < 1:
            raise RecipeError(
                f"CrossAttention: threshold is {threshold}, but is a probability: 0 < threshold < 1; null: no masks."
            )
        self.num_levels = len(dims.channels)
        self.layers = nn.ModuleList(
            CrossAttentionLayer(dims.width, hidden, num_heads, order == "cross_first", self.attention_of(index))
            for index in range(num_layers)
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

    def attention_of(self, index: int) -> type[MultiHeadAttention]:
        """How a layer looks at pixels."""
        return MultiHeadAttention

    def mask_level(self, index: int) -> int:
        """The level at whose size masks before a layer are read."""
        return index % self.num_levels

    def needs_weights(self, index: int) -> bool:
        """Whether this decoder itself reads the attention weights of a layer."""
        return False

    def look(
        self, index: int, memory: Memory, initial: Queries, masks: Tensor, attentions: Sequence[Tensor | None]
    ) -> Seen:
        """What a layer sees: all cells of its level, less those that masks block.

        initial     queries before anything moved them
        masks       (B, A, any height, any width) logits
        attentions  of the layers before, (B, A, S) where there are weights
        """
        level = index % self.num_levels
        blocked = None if self.threshold is None else blocked_by(masks, memory.sizes[level], self.threshold)
        return Seen(memory.keys(level), memory.values[level], memory.positions[level], blocked)

    def follows(self, index: int) -> bool:
        """Whether sources are told where this layer looked."""
        return True

    def attend(self, features: Features, queries: Queries, source: QuerySource) -> tuple[list[Prediction], Queries]:
        """All layers: the reading before each of them, and the queries after the last."""
        memory, num_layers = Memory(features), len(self.layers)
        mask_levels = [self.mask_level(index) for index in range(num_layers)]
        mask_features = dict.fromkeys(mask_levels, features.mask_features)
        if not self.training:
            for level in mask_features:
                mask_features[level] = F.interpolate(features.mask_features, memory.sizes[level], mode="bilinear")

        initial = queries
        readings = [self.heads(queries, mask_features[mask_levels[0]])]
        attentions: list[Tensor | None] = []
        queries = source.refine(queries, Round(-1, readings[0], features, upcoming=mask_levels[0]))
        for index, layer in enumerate(self.layers):
            masks = readings[-1].mask_logits[:, : queries.num_attending]
            seen = self.look(index, memory, initial, masks, attentions)
            follows = self.follows(index)
            weights = (source.needs_attention and follows) or self.needs_weights(index)
            content, attention = layer(queries, seen, weights)
            attentions.append(attention)
            queries = replace(queries, content=content)
            if index + 1 < num_layers:
                upcoming = mask_levels[index + 1]
                readings.append(self.heads(queries, mask_features[upcoming]))
                told = attention if follows else None
                round = Round(index, readings[-1], features, index % self.num_levels, told, seen.positions, upcoming)
                queries = source.refine(queries, round)
        return readings, queries
