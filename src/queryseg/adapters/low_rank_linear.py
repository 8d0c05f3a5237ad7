"""A linear layer and a low-rank change of it.

Shape legend: S matrices stacked in the weight, I inputs, O outputs of each, R rank.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankLinear(nn.Linear):
    """y = x Wᵀ + b + scaling · (x Aᵀ Bᵀ − x A₀ᵀ B₀ᵀ), each of the S matrices in W with an A and a B of its own.

    W and b are the parameters of the layer that this one replaces. A (S, R, I) and B (S, O, R) learn; A₀ and B₀ are
    what they were at the start and never change, so that nothing changes before the first step: W − scaling · B₀A₀ is
    the frozen residual of the papers. Keeping W itself makes the start exact, and lets a run be stored without W.

    subtract: False leaves A₀ and B₀ out, for changes that begin at zero.
    """

    first_down: nn.Parameter | None
    first_up: nn.Parameter | None

    def __init__(self, linear: nn.Linear, stacked: int, rank: int, scaling: float, subtract: bool) -> None:
        nn.Module.__init__(self)  # the weight is not drawn anew
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scaling = scaling
        down = linear.weight.new_zeros(stacked, rank, self.in_features)
        up = linear.weight.new_zeros(stacked, self.out_features // stacked, rank)
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.first_down = nn.Parameter(down.clone(), requires_grad=False) if subtract else None
        self.first_up = nn.Parameter(up.clone(), requires_grad=False) if subtract else None

    @torch.no_grad()
    def begin_with(self, down: Tensor, up: Tensor) -> None:
        """First values of A and B (shapes: see the class)."""
        self.down.copy_(down)
        self.up.copy_(up)
        if self.first_down is not None and self.first_up is not None:
            self.first_down.copy_(down)
            self.first_up.copy_(up)

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, S·O)"""
        change = _through(x, self.down, self.up)
        if self.first_down is not None and self.first_up is not None:
            change = change - _through(x, self.first_down, self.first_up)
        return torch.add(F.linear(x, self.weight, self.bias), change, alpha=self.scaling)

    @property
    def residual(self) -> Tensor:
        """(S·O, I) what stays frozen: W − scaling · B₀A₀"""
        if self.first_down is None or self.first_up is None:
            return self.weight
        return self.weight - self.scaling * (self.first_up @ self.first_down).flatten(0, 1)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain layer that says the same."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        weight = self.residual + self.scaling * (self.up @ self.down).flatten(0, 1)
        plain.weight = nn.Parameter(weight, self.weight.requires_grad)
        plain.bias = self.bias
        return plain.train(self.training)


def _through(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """(…, I) → (…, S·O); in two steps, so that no matrix of the weight's size is made and kept for the gradient."""
    if len(up) == 1:
        return F.linear(F.linear(x, down[0]), up[0])
    narrow = F.linear(x, down.flatten(0, 1)).chunk(len(up), -1)  # S times (…, R)
    return torch.cat([F.linear(part, matrix) for part, matrix in zip(narrow, up, strict=True)], -1)
