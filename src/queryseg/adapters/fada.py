"""FADA-style: Rein's tokens on low and high frequencies apart.

Shape legend: B images, h×w the grid of patches, C width of the trunk, m tokens, X width of a band (C or 3·C).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.adapters.blocks import first_block
from queryseg.adapters.low_rank_tokens import LowRankTokens
from queryseg.contracts import Adapter, Backbone
from queryseg.errors import RecipeError
from queryseg.ops.wavelets import haar, inverse_haar
from queryseg.types import Dims


class FADA(Adapter):
    """Behind every block the grid of patches is split by one level of the Haar transform; its low band (scene content)
    and its three high bands side by side (style, detail) attend to tokens of their own, and what they change is
    transformed back:

        f_X ← f_X + scale · ((f_X + S (T W₁)) W₂),  S = softmax(f_X Tᵀ / √C)

    In the high branch the products are normalised before the softmax, per image and token over all positions, which
    takes an image's style out of them. Blocks stay frozen; layers and scale are shared by all of them. Grids of an odd
    size repeat their last row or column.

    num_tokens, rank, start, scale: see `Rein`

    Source: Bi et al., FADA (NeurIPS 2024), as told in baselines.md §3, whose paper form this is: the released code has
    no inverse transform, mixes axes and trains the kernels. Its widths cannot be recovered from the text, hence
    "-style": with three bands side by side, this one trains 22.6 M parameters on ViT-L, the paper tells of 11.65 M.
    """

    def __init__(
        self, dims: Dims, num_tokens: int = 100, rank: int = 16, start: float = 0.0, scale: float = 1e-3
    ) -> None:
        super().__init__()
        if num_tokens < 1 or rank < 1:
            raise RecipeError(f"FADA: num_tokens is {num_tokens} and rank {rank}, but both must be at least 1.")
        self.starts_at = first_block(start, dims.depth, "FADA")
        num_blocks = dims.depth - self.starts_at
        self.low = Band(dims.embed, num_blocks, num_tokens, rank, normalised=False)
        self.high = Band(3 * dims.embed, num_blocks, num_tokens, rank, normalised=True)
        self.temperature = math.sqrt(dims.embed)
        self.scale = nn.Parameter(torch.tensor(scale))

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()

    def after_block(self, patches: Tensor, index: int) -> Tensor:
        if index < self.starts_at:
            return patches
        height, width = patches.shape[1:3]
        even = F.pad(patches.permute(0, 3, 1, 2), (0, width % 2, 0, height % 2), mode="replicate").permute(0, 2, 3, 1)
        low, high = haar(even)
        block = index - self.starts_at
        # of a sum, so that a scale of zero changes not a single bit
        change = inverse_haar(self.low(low, block, self.temperature), self.high(high, block, self.temperature))
        return patches + self.scale * change[:, :height, :width]

    def undecayed(self) -> frozenset[str]:
        return self.low.tokens.names("low.tokens") | self.high.tokens.names("high.tokens")


class Band(nn.Module):
    """What one branch changes: (B, h/2, w/2, X) → the same shape, before the scale."""

    def __init__(self, width: int, num_blocks: int, num_tokens: int, rank: int, normalised: bool) -> None:
        super().__init__()
        self.tokens = LowRankTokens(num_blocks, num_tokens, width, rank)
        self.token_to_feature, self.refine = nn.Linear(width, width), nn.Linear(width, width)
        self.normalised = normalised

    def forward(self, band: Tensor, block: int, temperature: float) -> Tensor:
        """See the class."""
        tokens = self.tokens(block)
        found = band @ tokens.T / temperature
        if self.normalised:
            variance, mean = torch.var_mean(found, (1, 2), correction=0, keepdim=True)
            found = (found - mean) * (variance + 1e-5).rsqrt()  # torch's instance norm refuses a single position
        change: Tensor = self.refine(band + found.softmax(-1) @ self.token_to_feature(tokens))
        return change
