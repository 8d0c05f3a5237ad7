"""Queries that an adapter's tokens make.

Shape legend: B images, Q queries, D query width.
"""

from __future__ import annotations

from torch import nn

from queryseg.contracts import Heads, QuerySource
from queryseg.types import Dims, Features, Queries


class LinkedQueries(QuerySource):
    """Positions are the adapter's own, contents one linear layer of them; the same Q for every image, as many as the
    adapter has tokens. Decoders inside a trunk read the contents alone.

    Source: Rein (CVPR 2024), Eq. 9–10 and its `querys2feat`; baselines.md §1.
    """

    provides = frozenset({"linked_positions"})
    requires = frozenset({"query_position"})

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.content = nn.Linear(dims.width, dims.width)

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        position = features.extras["query_position"].expand(features.mask_features.shape[0], -1, -1)
        return Queries(self.content(position), position)
