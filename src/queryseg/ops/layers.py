"""Small layers that several parts share.

Shape legend: B images, C channels, h×w a grid, N rows, D width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with an activation between them: (…, width) → (…, out).

    num_layers counts the linear layers; hidden layers are `hidden` wide.
    """

    def __init__(
        self, width: int, hidden: int, out: int, num_layers: int, activation: Literal["relu", "gelu"] = "relu"
    ) -> None:
        super().__init__()
        sizes = [width] + [hidden] * (num_layers - 1) + [out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x)) if self.activation == "relu" else F.gelu(layer(x))
        return last(x)  # type: ignore[no-any-return]


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, h, w); free of copies when the map is channels-last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def tokens_of(x: Tensor) -> Tensor:
    """(B, C, h, w) → (B, h·w, C), row by row"""
    return x.flatten(2).transpose(1, 2)
