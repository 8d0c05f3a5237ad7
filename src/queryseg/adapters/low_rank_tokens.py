"""Tokens that features are compared with, one table per block.

Shape legend: L blocks, m tokens, R rank, C width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

PATCH = 16
"""Of the published backbones; Rein's first values depend on it, whatever the patch of the trunk."""


class LowRankTokens(nn.Module):
    """T_l = A_l B_l (m, C) for each of L blocks; rank None: free tables.

    First values: uniform in ±√(6 / (3·16² + √(C·R))), for free tables as if R were C. Source: Rein's code as told in
    baselines.md §1.
    """

    if TYPE_CHECKING:

        def __call__(self, index: int) -> Tensor: ...

    def __init__(self, num_blocks: int, num_tokens: int, width: int, rank: int | None) -> None:
        super().__init__()
        reach = math.sqrt(6 / (3 * PATCH**2 + math.sqrt(width * (rank or width))))
        size = (num_tokens, width) if rank is None else (num_tokens, rank)
        self.left = nn.Parameter(torch.empty(num_blocks, *size).uniform_(-reach, reach))
        self.right = (
            None if rank is None else nn.Parameter(torch.empty(num_blocks, rank, width).uniform_(-reach, reach))
        )

    def forward(self, index: int) -> Tensor:
        """(m, C) of one block, counted from the first that has any."""
        return self.left[index] if self.right is None else self.left[index] @ self.right[index]

    def all(self) -> Tensor:
        """(L, m, C)"""
        return self.left if self.right is None else self.left @ self.right

    def names(self, prefix: str) -> frozenset[str]:
        """Of its parameters, for `undecayed`."""
        return frozenset(f"{prefix}.{name}" for name, _ in self.named_parameters())
