"""Learned queries that come in stages.

Shape legend: B images, Q queries, D query width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from queryseg.contracts import Heads, QuerySource
from queryseg.errors import RecipeError
from queryseg.types import Dims, Features, Queries


class StagedQueries(QuerySource):
    """Learned queries, to which every later step of a continual run adds some. Those of earlier steps are frozen and
    stay out of training: what is labelled now is nothing that they know.

    num_queries  of the first step
    added        by every later step
    step_number  from 1, as the run says
    position     also learn a position per query

    Source: ECLIPSE (Kim et al., CVPR 2024) §3.2, visual prompt tuning; written from the paper alone.
    Deviation: added queries enter the decoder once ("shallow"), without prompts of their own in every layer.
    """

    def __init__(
        self, dims: Dims, num_queries: int = 100, added: int = 10, step_number: int = 1, position: bool = True
    ) -> None:
        super().__init__()
        if num_queries < 1 or added < 1:
            raise RecipeError(
                f"StagedQueries: num_queries is {num_queries} and added {added}, but both must be at least 1."
            )
        sizes = [num_queries] + [added] * (step_number - 1)
        self.content_stages = nn.ParameterList(torch.randn(size, dims.width) for size in sizes)
        self.position_stages = nn.ParameterList(torch.randn(size, dims.width) for size in sizes if position)
        if position:  # tables that nothing reads would never learn
            self.requires |= {"positions_read"}
        for stages in (self.content_stages, self.position_stages):
            for table in list(stages)[:-1]:
                table.requires_grad_(False)

    def added(self) -> frozenset[str]:
        """Names of the tables that the latest step brought; an earlier step's weights lack them."""
        last = len(self.content_stages) - 1
        if last == 0:
            return frozenset()
        return frozenset(name for name, _ in self.named_parameters() if name.endswith(f".{last}"))

    def undecayed(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.named_parameters())

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        batch = features.mask_features.shape[0]

        def repeat(stages: nn.ParameterList) -> Tensor:
            tables = list(stages)[-1:] if self.training else list(stages)
            return torch.cat(tables)[None].expand(batch, -1, -1)

        return Queries(repeat(self.content_stages), repeat(self.position_stages) if len(self.position_stages) else None)
