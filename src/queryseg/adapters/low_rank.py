"""What LoRA and SoMA share: low-rank changes of every linear layer of attention and MLP.

Shape legend: S matrices stacked in a weight, I inputs, O outputs of each, R rank.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from queryseg.adapters.blocks import first_block
from queryseg.adapters.low_rank_linear import LowRankLinear
from queryseg.contracts import Adapter, Backbone, Projection
from queryseg.errors import RecipeError
from queryseg.types import Dims


class LowRank(Adapter):
    """Replaces the linear layers of the blocks from `start` on by `LowRankLinear`; merging puts plain ones back.

    rank, alpha  of every change; its scaling is alpha / rank (None: alpha = rank, scaling 1)
    start        share of the depth that stays as it is
    """

    subtracts: bool
    """Whether the changes begin elsewhere than at zero, see `LowRankLinear`."""
    trains_biases: bool

    def __init__(self, dims: Dims, rank: int, alpha: float | None, start: float) -> None:
        super().__init__()
        if rank < 1:
            raise RecipeError(f"{type(self).__name__}: rank is {rank}, but must be at least 1.")
        self.rank, self.scaling = rank, 1.0 if alpha is None else alpha / rank
        self.starts_at, self.depth = first_block(start, dims.depth, type(self).__name__), dims.depth

    @abstractmethod
    def first_values(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """One matrix (O, I) → A (R, I) and B (O, R) at the start."""

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()
        for section, projection in self._projections(backbone):
            linear, stacked, biases = projection
            outputs = linear.out_features // stacked
            if self.rank > min(linear.in_features, outputs):
                raise RecipeError(
                    f"{type(self).__name__}: rank is {self.rank}, but the backbone has matrices of {outputs}×"
                    f"{linear.in_features}, whose rank is at most {min(linear.in_features, outputs)}; choose a smaller "
                    "one."
                )
            adapted = LowRankLinear(linear, stacked, self.rank, self.scaling, self.subtracts)
            _replace(section, linear, adapted.train(linear.training))
            for bias in biases if self.trains_biases else ():
                bias.requires_grad_(True)

    def initialise(self, backbone: Backbone) -> None:
        for _, (linear, stacked, _) in self._projections(backbone):
            assert isinstance(linear, LowRankLinear)
            found = [self.first_values(matrix) for matrix in linear.weight.detach().chunk(stacked)]
            linear.begin_with(*(torch.stack(values) for values in zip(*found, strict=True)))

    def merge(self, backbone: Backbone) -> None:
        for section, (linear, _, _) in self._projections(backbone):
            assert isinstance(linear, LowRankLinear)
            _replace(section, linear, linear.merged())
        backbone.adapter = None

    def _projections(self, backbone: Backbone) -> Iterator[tuple[nn.Module, Projection]]:
        """With the block that each is in."""
        blocks = backbone.sections()[1:]
        for index in range(self.starts_at, self.depth):
            for projection in backbone.projections(index):
                yield blocks[index], projection


def _replace(section: nn.Module, old: nn.Module, by: nn.Module) -> None:
    name = next(name for name, module in section.named_modules() if module is old)
    section.set_submodule(name, by)
