"""Queries read the backbone almost as it is.

Shape legend: B images, C channels of a backbone level, D width, E = D width of mask features, h×w a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from queryseg.contracts import PixelDecoder
from queryseg.errors import RecipeError
from queryseg.ops.sine_positions import sine_positions
from queryseg.pixel_decoders.pyramid import check_pyramid
from queryseg.types import Dims, Features


class Projected(PixelDecoder):
    """Mask2Former without its pixel decoder: one linear layer per level, no exchange between levels; the finest level
    becomes the mask features. Sine positions and level embedding as in Mask2Former.

    width   D
    levels  which of the backbone's four levels queries read, counted from the coarsest (0), in this order. [0, 1, 2]:
            the rung "without pixel decoder"; [1]: the rung "without multi-scale", every layer on the ViT's own grid.
            What lies behind the deepest level read learns nothing: without 0, let a ViT tap its last block twice.

    Source: QPrompt-R1 Table 7; spec §2.
    """

    provides = frozenset({"level_positions"})

    def __init__(self, dims: Dims, width: int = 256, levels: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        check_pyramid("Projected", dims, width)
        if not levels or any(not 0 <= level < 4 for level in levels) or len(set(levels)) < len(levels):
            raise RecipeError(f"Projected: levels is {list(levels)}, but must name some of 0, 1, 2, 3, each once.")
        self.read = tuple(levels)
        self.inputs = nn.ModuleList(nn.Conv2d(dims.channels[level], width, 1) for level in self.read)
        self.mask_projection = nn.Conv2d(dims.channels[-1], width, 1)
        self.level_embed = nn.Parameter(torch.randn(len(self.read), width))
        for layer in (*self.inputs, self.mask_projection):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        self.dims = replace(
            dims,
            channels=(width,) * len(self.read),
            strides=tuple(dims.strides[level] for level in self.read),
            mask_channels=width,
            width=width,
        )

    def undecayed(self) -> frozenset[str]:
        return frozenset({"level_embed"})

    def forward(self, features: Features) -> Features:
        maps = [layer(features.levels[level]) for layer, level in zip(self.inputs, self.read, strict=True)]
        return replace(
            features,
            levels=tuple(m + e[:, None, None] for m, e in zip(maps, self.level_embed, strict=True)),
            positions=tuple(sine_positions(m) for m in maps),
            mask_features=self.mask_projection(features.levels[-1]),
        )
