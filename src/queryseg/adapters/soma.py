"""SoMA: fine-tune the smallest singular components.

Shape legend: see `low_rank.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from queryseg.adapters.low_rank import LowRank
from queryseg.types import Dims


class SoMA(LowRank):
    """Every linear layer W = U Σ Vᵀ of attention and MLP learns its `rank` minor components B A, B = U_r √Σ_r and
    A = √Σ_r V_rᵀ, from a third of the depth on; the residual W − B A and everything else in the trunk stay frozen, but
    for the biases of these layers. At the start the trunk is exactly what it was; merging leaves plain layers.

    rank, alpha, start: see `LowRank`. With alpha / rank ≠ 1 the singular values are divided by it.

    In its paper the decay of weights is annealed (`training.final_weight_decay`), adapters learn at half of the rate
    (`training.adapter_factor`), and the model is an average of weights (`training.ema_decay`, `ema_start`).

    Source: Yun et al., SoMA (CVPR 2025), §3; baselines.md §2. Fused layers: each matrix is decomposed on its own.
    """

    subtracts = True
    trains_biases = True

    def __init__(self, dims: Dims, rank: int = 16, alpha: float | None = None, start: float = 1 / 3) -> None:
        super().__init__(dims, rank, alpha, start)

    def first_values(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        # the thin form: a full one would end with rows of the null space; randomised routines find the largest
        left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
        roots = (sizes[-self.rank :] / self.scaling).sqrt()
        return roots[:, None] * right[-self.rank :], left[:, -self.rank :] * roots
