"""Levels exchange what they know by deformable attention.

Shape legend: B images, C channels of a backbone level, D width, S cells of the levels that take part, h×w a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.contracts import PixelDecoder
from queryseg.errors import RecipeError
from queryseg.ops.deformable_attention import Cells, DeformableAttention
from queryseg.ops.layers import tokens_of
from queryseg.pixel_decoders.position_encoding import Encoding, position_encoding
from queryseg.pixel_decoders.pyramid import check_pyramid
from queryseg.types import Dims, Features

NUM_LEVELS = 3
"""Levels that exchange; the fourth, finest one is only read."""


class DeformableLayer(nn.Module):
    """Deformable attention, then a feed-forward layer; each adds to its input and is normed after.

    Source: Mask2Former §3.2.2; Deformable DETR's encoder layer.
    """

    def __init__(self, width: int, hidden: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, num_heads, NUM_LEVELS, num_points)
        self.attention_norm = nn.LayerNorm(width)
        self.expand, self.reduce = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.expand.weight)
        nn.init.xavier_uniform_(self.reduce.weight)

    def forward(self, x: Tensor, position: Tensor, cells: Cells) -> Tensor:
        """x (B, S, D), position (1 or B, S, D) → (B, S, D)"""
        return self.think(self.look_around(x, position, cells))

    def look_around(self, x: Tensor, position: Tensor, cells: Cells) -> Tensor:
        """The half with deformable attention."""
        return self.attention_norm(x + self.attention(x, position, cells))  # type: ignore[no-any-return]

    def think(self, x: Tensor) -> Tensor:
        """The feed-forward half."""
        return self.feed_forward_norm(x + self.reduce(F.relu(self.expand(x))))  # type: ignore[no-any-return]


class Deformable(PixelDecoder):
    """Mask2Former's pixel decoder: the three coarse levels pass through layers of deformable attention; the finest of
    them, upsampled and added to the backbone's finest level, becomes the mask features.

    width       D
    num_layers  of deformable attention
    hidden      width of their feed-forward layers
    num_heads, num_points  of deformable attention, points per head and level
    groups      of GroupNorm after every convolution
    positions   what tells cells apart, in these layers and for queries: sine (Mask2Former), learnable, or conditional,
                a convolution of the projected backbone level (FASeg)
    num_levels  that queries may read. 3: as in Mask2Former; 4: also the finest, from which mask features are made

    Deviation: the level embedding that the original adds in its transformer decoder is added here, so that sources and
    decoders read the same memory.
    Source: Mask2Former (arXiv 2112.01527) §3.2.2, initialisation included; FASeg (CVPR 2023) §3.2, Table 3.
    """

    provides = frozenset({"level_positions"})
    layer: type[DeformableLayer] = DeformableLayer

    def __init__(
        self,
        dims: Dims,
        width: int = 256,
        num_layers: int = 6,
        hidden: int = 1024,
        num_heads: int = 8,
        num_points: int = 4,
        groups: int = 32,
        positions: Encoding = "sine",
        num_levels: int = NUM_LEVELS,
    ) -> None:
        super().__init__()
        check_pyramid("Deformable", dims, width)
        for name, count in (("num_layers", num_layers), ("hidden", hidden), ("num_points", num_points)):
            if count < 1:
                raise RecipeError(f"Deformable: {name} is {count}, but must be at least 1.")
        if groups < 1 or width % groups:
            raise RecipeError(f"Deformable: width {width} cannot be split into {groups} groups; choose another number.")
        if num_levels not in (NUM_LEVELS, NUM_LEVELS + 1):
            raise RecipeError(f"Deformable: num_levels is {num_levels}, but queries read 3 levels or all 4.")

        # the finest level enters only where positions are made from it
        num_inputs = num_levels if positions == "conditional" else NUM_LEVELS
        finest = dims.channels[-1]
        entrances = [nn.Conv2d(channels, width, 1) for channels in dims.channels[:num_inputs]]
        for entrance in entrances:
            nn.init.xavier_uniform_(entrance.weight)
            nn.init.zeros_(entrance.bias)  # type: ignore[arg-type]
        self.inputs = nn.ModuleList(nn.Sequential(entrance, nn.GroupNorm(groups, width)) for entrance in entrances)
        self.encoder_level_embed = nn.Parameter(torch.randn(NUM_LEVELS, width))
        self.layers = nn.ModuleList(self.layer(width, hidden, num_heads, num_points) for _ in range(num_layers))
        lateral, smooth = nn.Conv2d(finest, width, 1, bias=False), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.lateral = nn.Sequential(lateral, nn.GroupNorm(groups, width))
        self.smooth = nn.Sequential(smooth, nn.GroupNorm(groups, width), nn.ReLU())
        self.mask_projection = nn.Conv2d(width, width, 1)
        for convolution in (lateral, smooth, self.mask_projection):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        nn.init.zeros_(self.mask_projection.bias)  # type: ignore[arg-type]
        self.encodings = nn.ModuleList(position_encoding(positions, width) for _ in range(num_levels))
        self.decoder_level_embed = nn.Parameter(torch.randn(num_levels, width))
        self.dims = replace(
            dims,
            channels=(width,) * num_levels,
            strides=dims.strides[:num_levels],
            mask_channels=width,
            width=width,
        )

    def undecayed(self) -> frozenset[str]:
        tables = {name for name, _ in self.named_parameters() if name.endswith((".rows", ".columns"))}
        return frozenset({"encoder_level_embed", "decoder_level_embed"} | tables)

    def exchange(self, maps: Sequence[Tensor], positions: Sequence[Tensor], features: Features) -> list[Tensor]:
        """What the layers make of the coarse levels: (B, D, h, w) each → the same shapes."""
        sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
        cells = Cells(sizes, maps[0])
        x = torch.cat([tokens_of(m) for m in maps], 1)
        position = torch.cat([tokens_of(p) + e for p, e in zip(positions, self.encoder_level_embed, strict=True)], 1)
        x = self.run_layers(x, position, cells, features)
        parts = torch.split(x, [height * width for height, width in sizes], 1)
        return [part.transpose(1, 2).reshape(m.shape) for part, m in zip(parts, maps, strict=True)]

    def run_layers(self, x: Tensor, position: Tensor, cells: Cells, features: Features) -> Tensor:
        """x (B, S, D), position (1 or B, S, D) → (B, S, D). features: as the backbone and the query source left them"""
        for layer in self.layers:
            x = layer(x, position, cells)
        return x

    def forward(self, features: Features) -> Features:
        *coarse, finest = features.levels
        inputs = [entrance(level) for entrance, level in zip(self.inputs, features.levels, strict=False)]
        positions = [encode(x) for encode, x in zip(self.encodings, inputs, strict=False)]
        maps = self.exchange(inputs[: len(coarse)], positions[: len(coarse)], features)
        fine = self.lateral(finest)
        fine = self.smooth(fine + F.interpolate(maps[-1], fine.shape[-2:], mode="bilinear", align_corners=False))
        if len(self.encodings) > len(coarse):
            maps.append(fine)
            if len(positions) < len(maps):  # told by the size alone
                positions.append(self.encodings[-1](fine))
        return replace(
            features,
            levels=tuple(m + e[:, None, None] for m, e in zip(maps, self.decoder_level_embed, strict=True)),
            positions=tuple(positions),
            mask_features=self.mask_projection(fine),
        )
