"""Rein: learned tokens refine the features behind every block, and become the queries.

Shape legend: B images, h×w the grid of patches, C width of the trunk, m tokens, L adapted blocks, D query width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from queryseg.adapters.blocks import first_block
from queryseg.adapters.low_rank_tokens import LowRankTokens
from queryseg.contracts import Adapter, Backbone
from queryseg.errors import RecipeError
from queryseg.types import Dims


class Rein(Adapter):
    """Behind every block, each patch f attends to the block's m tokens T and moves by what it finds:

        S = softmax(f Tᵀ / √C), without its column 0     f ← f + scale · ((S T₁…W₁ + f) W₂)

    Column 0 takes part in the softmax and is dropped after it: a null sink for patches that need no change. The two
    layers W₁, W₂ (with biases) and the scale are shared by all blocks, whose weights stay frozen.

    num_tokens  m; with the link also the number of queries
    rank        of the tokens T = A B; None: free tables
    start       share of the depth behind which no block is refined; the paper refines all
    link        offer the tokens as query positions; use the source `queries.LinkedQueries` with it
    scale       first value; None: the constant 1
    softmax     False: plain products f Tᵀ

    Source: Wei et al., Rein (CVPR 2024), Eq. 2–10; details as told in baselines.md §1. No code was read.
    """

    def __init__(
        self,
        dims: Dims,
        num_tokens: int = 100,
        rank: int | None = 16,
        start: float = 0.0,
        link: bool = True,
        scale: float | None = 1e-3,
        softmax: bool = True,
    ) -> None:
        super().__init__()
        if num_tokens < 2:
            raise RecipeError(f"Rein: num_tokens is {num_tokens}, but must be at least 2: the first one takes nothing.")
        if rank is not None and rank < 1:
            raise RecipeError(f"Rein: rank is {rank}, but must be at least 1, or null for tokens of full rank.")
        self.starts_at = first_block(start, dims.depth, "Rein")
        self.tokens = LowRankTokens(dims.depth - self.starts_at, num_tokens, dims.embed, rank)
        self.token_to_feature = nn.Linear(dims.embed, dims.embed)
        self.refine = nn.Linear(dims.embed, dims.embed)
        self.scale = 1.0 if scale is None else nn.Parameter(torch.tensor(scale))
        self.softmax = softmax
        self.link = TokenLink(dims.embed, dims.width) if link else None
        if link:
            self.provides, self.requires = frozenset({"query_position"}), frozenset({"linked_positions"})

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()

    def after_block(self, patches: Tensor, index: int) -> Tensor:
        if index < self.starts_at:
            return patches
        return patches + self.scale * self.delta(patches, self.tokens(index - self.starts_at))

    def delta(self, patches: Tensor, tokens: Tensor) -> Tensor:
        """patches (B, h, w, C), tokens (m, C) → (B, h, w, C), before the scale"""
        found = patches @ tokens.T
        shares = (found / math.sqrt(tokens.shape[1])).softmax(-1) if self.softmax else found
        change: Tensor = self.refine(shares[..., 1:] @ self.token_to_feature(tokens[1:]) + patches)
        return change

    def extras(self) -> Mapping[str, Tensor]:
        return {} if self.link is None else {"query_position": self.link(self.tokens.all())}

    def undecayed(self) -> frozenset[str]:
        return self.tokens.names("tokens")


class TokenLink(nn.Module):
    """Tokens of all blocks → query positions: (L, m, C) → (m, D).

    The largest over the blocks, their mean and the last one, of each of D features, through one linear layer.
    """

    def __init__(self, embed: int, width: int) -> None:
        super().__init__()
        self.transform = nn.Linear(embed, width)
        self.combine = nn.Linear(3 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        narrow = self.transform(tokens)  # (L, m, D)
        positions: Tensor = self.combine(torch.stack([narrow.amax(0), narrow.mean(0), narrow[-1]], -1).flatten(-2))
        return positions
