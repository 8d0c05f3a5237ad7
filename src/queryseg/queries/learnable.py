"""Queries as a table of parameters.

Shape legend: B images, Q queries, D query width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from queryseg.contracts import Heads, QuerySource
from queryseg.errors import RecipeError
from queryseg.types import Dims, Features, Queries


class LearnableQueries(QuerySource):
    """The same Q learned vectors for every image.

    num_queries  Q; 100 is Mask2Former's number, QPrompt's paper names none
    position     also learn a position per query (Mask2Former); queries inside a ViT have none (QPrompt, EoMT)
    std          of the initial contents. 1, as in Mask2Former and EoMT; the paper names none. With 0.02, the scale of
                 ViT tables, queries begin nearly alike and QPrompt learns slower (recipes/qprompt_r1/README.md)

    Source: QPrompt-R1 §3.2; Mask2Former §3.2.1.
    """

    def __init__(self, dims: Dims, num_queries: int = 100, position: bool = False, std: float = 1.0) -> None:
        super().__init__()
        if num_queries < 1:
            raise RecipeError(f"LearnableQueries: num_queries is {num_queries}, but must be at least 1.")
        self.content = nn.Parameter(torch.randn(num_queries, dims.width) * std)
        self.position = nn.Parameter(torch.randn(num_queries, dims.width) * std) if position else None
        if position:  # a table that nothing reads would never learn
            self.requires |= {"positions_read"}

    def undecayed(self) -> frozenset[str]:
        return frozenset({"content", "position"})

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        batch = features.mask_features.shape[0]

        def repeat(table: Tensor) -> Tensor:
            return table[None].expand(batch, -1, -1)

        return Queries(repeat(self.content), None if self.position is None else repeat(self.position))
