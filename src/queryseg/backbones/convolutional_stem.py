"""A stem of small convolutions in place of the one large patch convolution.

Shape legend: B images, C embedding width, h×w the grid of patches.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from queryseg.errors import RecipeError


class ConvolutionalStem(nn.Module):
    """(B, 3, H, W) → (B, h, w, C): stride-2 3×3 convolutions, widths C/8, C/4, C/2, C, then 1×1; to train from scratch.

    Takes the place of timm's PatchEmbed (`embed_layer`), whose attributes and keywords it therefore shares.

    Source: Xiao et al., "Early Convolutions Help Transformers See Better" (NeurIPS 2021); GELU instead of ReLU, and no
    transformer block is removed in exchange.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int],
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        bias: bool = True,
        **_: Any,
    ) -> None:
        super().__init__()
        if patch_size not in (4, 8, 16):
            raise RecipeError(f"stem: convolution works with patch_size 4, 8 or 16, not {patch_size}.")
        self.patch_size = (patch_size, patch_size)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size = (height, width)
        self.grid_size = (height // patch_size, width // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        num_halvings = int(math.log2(patch_size))
        widths = [in_chans, *(max(8, embed_dim >> (num_halvings - 1 - i)) for i in range(num_halvings))]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.GELU()]
        self.convolutions = nn.Sequential(*layers)
        self.proj = nn.Conv2d(widths[-1], embed_dim, 1, bias=bias)

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Stride in pixels."""
        return self.patch_size[0] if as_scalar else self.patch_size

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.proj(self.convolutions(images))
        return maps.permute(0, 2, 3, 1)
