"""Vision transformers that rotate queries and keys by position in every block.

Shape legend: B images, C width of the trunk, E queries that joined, N = h·w patches, D width of one head, A heads,
L blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from queryseg.backbones.vision_transformer import MAX_TABLES, VisionTransformer
from queryseg.contracts import Adapter
from queryseg.types import Trunk


class RotaryViT(VisionTransformer):
    """DINOv3, EVA-02 and timm's other rotary transformers. Queries and prefix tokens are not rotated.

    Arguments: see `VisionTransformer`.

    Source: RoFormer (arXiv 2104.09864) in two dimensions; qprompt_r1.md §1.
    """

    family = "RotaryViT"

    def _take_over(self, model: Any) -> None:
        self.rope: Any = model.rope
        model.rope = None  # the stem would build a table in every forward pass and drop it
        self._tables: dict[tuple[int, int], Tensor] = {}

    def attach(self, adapter: Adapter, initialise: bool = True) -> None:
        for block in self.blocks:
            attention: Any = block.attn
            if getattr(attention, "q_bias", None) is not None:
                attention.qkv_bias_separate = True  # else timm reads the weight of qkv past an adapted layer
        super().attach(adapter, initialise)

    def begin(self, images: Tensor) -> Trunk:
        trunk = super().begin(images)
        return trunk if self.rope is None else replace(trunk, rotary=self._table(trunk.grid))

    def block(self, index: int, trunk: Trunk, blocked: Tensor | None) -> Tensor:
        tokens: Tensor = self.blocks[index](
            trunk.tokens, rope=self._rows(index, trunk), attn_mask=self.visible(trunk, blocked)
        )
        return tokens

    def _rows(self, index: int, trunk: Trunk) -> Tensor | None:
        """(E + N, 2·D): timm leaves the first `prefix` tokens alone and rotates all others, so the table gets E neutral
        rows (sine 0, cosine 1) in front, which cover the prefix tokens that the queries pushed back."""
        table = trunk.rotary
        if table is None:
            return None
        if table.ndim == 4:  # one learned table per block
            table = table[index]
        if not trunk.extra:
            return table
        neutral = table.new_zeros(*table.shape[:-2], trunk.extra, table.shape[-1])
        neutral[..., table.shape[-1] // 2 :] = 1
        return torch.cat([neutral, table], -2)

    def _table(self, grid: tuple[int, int]) -> Tensor:
        """(N, 2·D) sines and cosines, or (L, A, N, 2·D) if learned; fixed tables are kept per grid, because timm builds
        DINOv3's on the CPU, which costs a transfer in every forward pass and keeps CUDA graphs from being recorded."""
        if grid in self._tables:
            return self._tables[grid]
        learned = any(True for _ in self.rope.parameters())
        if learned or torch.compiler.is_compiling():
            return cast(Tensor, self.rope.get_embed(shape=grid))
        if len(self._tables) >= MAX_TABLES:
            self._tables.clear()
        with torch.inference_mode(False):  # a table that validation builds must serve training, too
            self._tables[grid] = self.rope.get_embed(shape=grid)
        return self._tables[grid]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryViT:
        self._tables.clear()  # another device or precision
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def sections(self) -> list[nn.Module]:
        stem = self.stem if self.rope is None else nn.ModuleList([self.stem, self.rope])
        return [stem, *self.blocks]

    def undecayed(self) -> frozenset[str]:
        return super().undecayed() | {name for name, _ in self.named_parameters() if name.startswith("rope.")}
