"""SAM's image encoder: windows, a few global blocks, decomposed relative positions, no prefix tokens.

Shape legend: B images, C width of the trunk, A heads, D width of one head, E queries that joined, T = E + h·w tokens.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import get_decomposed_rel_pos_bias
from torch import Tensor, nn

from queryseg.backbones.vision_transformer import VisionTransformer
from queryseg.ops.resampling import resample_table
from queryseg.types import Trunk


class SamViT(VisionTransformer):
    """SAM ViT, tapped before its convolutional neck and finished by a new LayerNorm of tokens.

    Only the last blocks with global attention accept queries (one in the released models); queries have no place on the
    grid, so their rows and columns of the relative-position bias are zero. Arguments: see `VisionTransformer`.

    Source: Segment Anything (arXiv 2304.02643); qprompt_r1.md §1.
    """

    family = "SamViT"

    def _arguments(self) -> dict[str, Any]:
        return {}  # its positions are always resampled to the grid

    def _strip(self, model: Any, joint: bool) -> None:
        model.head = nn.Identity()
        model.neck = nn.Identity()

    def _joinable(self) -> int:
        return sum(1 for _ in takewhile(lambda block: not block.window_size, reversed(self.blocks)))

    def _embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        patches, table = self.stem.patch_embed(images), self._positions(grid)  # both (·, h, w, C)
        maps: Tensor = self.stem.norm_pre(self.stem.pos_drop(patches if table is None else patches + table))
        return maps.flatten(1, 2)

    def _table_grid(self) -> tuple[int, int]:
        height, width = self.stem.pos_embed.shape[1:3]
        return height, width

    def _resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        portable = torch.compiler.is_exporting()
        return resample_table(table, grid) if portable else resample_abs_pos_embed_nhwc(table, list(grid))

    def set_image_size(self, height: int, width: int) -> None:
        super().set_image_size(height, width)
        for block in self.blocks:
            attention: Any = block.attn
            if block.window_size or not attention.use_rel_pos:
                continue
            for name, size in zip(("rel_pos_h", "rel_pos_w"), self.stem.patch_embed.grid_size, strict=True):
                old = getattr(attention, name)
                new = F.interpolate(old.detach().T[None], 2 * size - 1, mode="linear")[0].T
                setattr(attention, name, nn.Parameter(new.contiguous(), old.requires_grad))

    def block(self, index: int, trunk: Trunk, blocked: Tensor | None) -> Tensor:
        block: Any = self.blocks[index]
        if not trunk.extra:
            maps: Tensor = block(trunk.patches)
            return maps.flatten(1, 2)
        assert not block.window_size, "queries joined before a block with windows"
        tokens = trunk.tokens + block.drop_path1(block.ls1(self._attend(block, trunk, blocked)))
        after: Tensor = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
        return after

    def _attend(self, block: Any, trunk: Trunk, blocked: Tensor | None) -> Tensor:
        """(B, T, C); timm's attention knows no tokens beside the grid."""
        attention, extra = block.attn, trunk.extra
        batch, length, _ = trunk.tokens.shape
        qkv = attention.qkv(block.norm1(trunk.tokens)).view(batch, length, 3, attention.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, A, T, D)
        q, k = attention.q_norm(q), attention.k_norm(k)
        bias = None
        if attention.use_rel_pos:
            patches = q[:, :, extra:].flatten(0, 1)
            bias = get_decomposed_rel_pos_bias(
                patches, attention.rel_pos_h, attention.rel_pos_w, trunk.grid, trunk.grid
            )
            bias = F.pad(bias.view(batch, attention.num_heads, length - extra, -1), (extra, 0, extra, 0))
        visible = self.visible(trunk, blocked)
        if visible is not None:
            bias = visible if bias is None else bias.masked_fill(~visible, -torch.inf)
        dropout = attention.attn_drop.p if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        projected: Tensor = attention.proj_drop(attention.proj(seen.transpose(1, 2).flatten(2)))
        return projected

    def undecayed(self) -> frozenset[str]:
        tables = {name for name, _ in self.named_parameters() if name.endswith((".rel_pos_h", ".rel_pos_w"))}
        return super().undecayed() | tables
