"""Every round ends with a look at the fine pixels below the cells that mattered.

Shape legend: B images, A queries that attend, D width, h×w the level that scores, S_0 its cells, H×W a fine level, S
its pixels, k cells chosen, T pixels chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Heads
from queryseg.decoders.cross_attention import CrossAttention, Memory, Seen
from queryseg.decoders.mask_heads import MaskHeads
from queryseg.errors import RecipeError
from queryseg.ops.cell_blocks import pixels_of_cells, take_rows
from queryseg.ops.multi_head_attention import MultiHeadAttention
from queryseg.ops.row_column_attention import RowColumnAttention
from queryseg.types import Dims, Queries

Context = Literal["cells", "pixels", "random", "all", "row_column"]


class HighResolutionCrossAttention(CrossAttention):
    """FASeg's transformer decoder: Mask2Former's, whose masks block less, with layers of high-resolution
    cross-attention (HRCA). These read of their level only what the queries together attended to most before. 13 layers:
    three rounds over strides 32, 16, 8 and 4, and stride 32 once more; 14 readings, all supervised.

    fine_levels    levels read by HRCA, counted from the coarsest (0)
    omega          HRCA reads one part in `omega` of its level, one cell at least
    context        what HRCA reads. cells: the fine pixels of the best coarse cells, one set for all queries; pixels:
                   the best pixels after the scores are enlarged; random: as many pixels by chance; all: every pixel,
                   plain cross-attention; row_column: every pixel, rows apart from columns (RCDA)
    scores         whose attention counts: coarsest: the same round's first layer; preceding: the last layer that read a
                   whole level
    fine_positions static: in HRCA queries look with the positions that they came with, and make no new ones from it;
                   dynamic: as in every other layer
    Others: see `CrossAttention`.

    No mask blocks anything in HRCA. Where fine and coarse sizes do not divide, cells share out the pixels unevenly.
    With "random" in eval mode, chance is the same for every image of a size.
    Source: FASeg (CVPR 2023) §3.3–3.4; spec §1, §3. Defaults are what the authors' code does, not always what the paper
    says: for that, see recipes/faseg/README.md. Deviation: one cell at least, where theirs reads none below 32 cells.
    """

    def __init__(
        self,
        dims: Dims,
        num_layers: int = 13,
        hidden: int = 2048,
        num_heads: int = 8,
        threshold: float | None = 0.15,
        fine_levels: Sequence[int] = (3,),
        omega: int = 32,
        context: Context = "cells",
        scores: Literal["coarsest", "preceding"] = "coarsest",
        fine_positions: Literal["static", "dynamic"] = "static",
        heads: Callable[[Dims], Heads] = MaskHeads,
    ) -> None:
        num_levels = len(dims.channels)
        if not fine_levels or any(level < 1 for level in fine_levels):
            raise RecipeError(
                f"HighResolutionCrossAttention: fine_levels is {list(fine_levels)}, but must name at least one level "
                "finer than the coarsest (0), e.g. [3]."
            )
        if max(fine_levels) >= num_levels:
            raise RecipeError(
                f"HighResolutionCrossAttention reads level {max(fine_levels)}, but the pixel decoder gives {num_levels}"
                f" level{'s'[: num_levels > 1]} (0 … {num_levels - 1}); let it give more, e.g. Deformable with "
                "num_levels: 4, or change fine_levels."
            )
        if omega < 1:
            raise RecipeError(f"HighResolutionCrossAttention: omega is {omega}, but must be at least 1.")
        self.fine_levels, self.context = frozenset(fine_levels), context
        self.omega, self.scores, self.fine_positions = omega, scores, fine_positions
        super().__init__(dims, num_layers, hidden, num_heads, threshold, "cross_first", heads)

    def is_fine(self, index: int) -> bool:
        """Whether a layer is HRCA."""
        return index % self.num_levels in self.fine_levels

    def scoring_layer(self, index: int) -> int:
        """Whose attention decides what an HRCA layer reads."""
        if self.scores == "coarsest":
            return index - index % self.num_levels
        return max(before for before in range(index) if not self.is_fine(before))

    def attention_of(self, index: int) -> type[MultiHeadAttention]:
        rows_apart = self.context == "row_column" and self.is_fine(index)
        return RowColumnAttention if rows_apart else MultiHeadAttention

    def mask_level(self, index: int) -> int:
        return 0 if self.is_fine(index) else super().mask_level(index)  # HRCA reads no masks: the smallest will do

    def needs_weights(self, index: int) -> bool:
        if self.context not in ("cells", "pixels"):
            return False
        fine_layers = (layer for layer in range(index + 1, len(self.layers)) if self.is_fine(layer))
        return any(self.scoring_layer(layer) == index for layer in fine_layers)

    def follows(self, index: int) -> bool:
        return self.fine_positions == "dynamic" or not self.is_fine(index)

    def look(
        self, index: int, memory: Memory, initial: Queries, masks: Tensor, attentions: Sequence[Tensor | None]
    ) -> Seen:
        if not self.is_fine(index):
            return super().look(index, memory, initial, masks, attentions)
        level, looking = index % self.num_levels, None
        if self.fine_positions == "static" and initial.position is not None:
            looking = initial.position[:, : initial.num_attending]
        values, positions = memory.values[level], memory.positions[level]
        if self.context in ("all", "row_column"):
            keys, size = memory.keys(level), memory.sizes[level]
            if self.context == "row_column":
                keys, values = (x.reshape(x.shape[0], *size, x.shape[2]) for x in (keys, values))
            return Seen(keys, values, positions, looking=looking)
        pixels, outside = self.chosen(index, memory, attentions)
        values, positions = take_rows(values, pixels), take_rows(positions, pixels)
        blocked = None if outside is None else outside[:, None]
        return Seen(values + positions, values, positions, blocked, looking, pixels)

    def chosen(self, index: int, memory: Memory, attentions: Sequence[Tensor | None]) -> tuple[Tensor, Tensor | None]:
        """What an HRCA layer reads: pixels (B, T) of its level, and which of these entries are none (B, T) or None."""
        level, scoring = index % self.num_levels, self.scoring_layer(index)
        fine, coarse = memory.sizes[level], memory.sizes[scoring % self.num_levels]
        if self.context == "random":
            return self._drawn(memory.values[level]), None
        attention = attentions[scoring]
        assert attention is not None, "the scoring layer was asked for its weights"
        scores = attention.detach().sum(1)
        if self.context == "cells":
            cells = scores.topk(max(1, scores.shape[1] // self.omega), 1).indices
            return pixels_of_cells(cells, coarse, fine)
        scores = F.interpolate(scores.view(-1, 1, *coarse), fine, mode="bilinear", align_corners=False)
        return scores.flatten(1).topk(max(1, fine[0] * fine[1] // self.omega), 1).indices, None

    def _drawn(self, values: Tensor) -> Tensor:
        """Pixels by chance: values (B, S, D) → (B, T)"""
        batch, length = values.shape[:2]
        if self.training:
            order = torch.rand(batch, length, device=values.device)
        else:  # the fractional part of a fast sine: no generator, so that it exports and images cannot differ
            place = torch.arange(length, device=values.device, dtype=torch.float64)
            order = ((place * 12.9898).sin() * 43758.5453).frac().expand(batch, -1)
        return order.topk(max(1, length // self.omega), 1).indices
