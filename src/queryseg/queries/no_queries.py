"""For decoders that classify pixels directly."""

from __future__ import annotations

from queryseg.contracts import Heads, QuerySource
from queryseg.types import Dims, Features, Queries


class NoQueries(QuerySource):
    """Zero rows: the MLP head of QPrompt-R1's Table 7 classifies pixels by a 1×1 convolution."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.width = dims.width

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        return Queries(features.mask_features.new_zeros(features.mask_features.shape[0], 0, self.width))
