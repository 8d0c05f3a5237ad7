"""LoRA, a control of SoMA.

Shape legend: see `low_rank.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from queryseg.adapters.low_rank import LowRank
from queryseg.types import Dims


class LoRA(LowRank):
    """W + alpha / rank · B A with A random and B zero, in every linear layer of attention and MLP; it merges away.

    rank, alpha, start: see `LowRank`. Fused layers have an A and a B for each of their matrices.

    Source: Hu et al., LoRA (ICLR 2022), Eq. 3; A drawn as in its code (Kaiming-uniform, a = √5), biases frozen.
    """

    subtracts = False
    trains_biases = False

    def __init__(self, dims: Dims, rank: int = 16, alpha: float | None = None, start: float = 0.0) -> None:
        super().__init__(dims, rank, alpha, start)

    def first_values(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        down = torch.empty_like(weight[: self.rank])
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        return down, weight.new_zeros(weight.shape[0], self.rank)
