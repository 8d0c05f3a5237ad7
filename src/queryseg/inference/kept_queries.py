"""Heads that read some of the queries.

Shape legend: B images, Q queries, K classes, D query width, E mask-embedding width, h×w a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from queryseg.contracts import Heads
from queryseg.types import Prediction, Queries


class KeptQueries(Heads):
    """Only the rows `kept` of the queries are read; they have taken part in attention with all others before. For
    inference with decoders that read once at their end (`Decoder.reads_once`), see `prune_queries`."""

    kept: Tensor

    def __init__(self, heads: Heads, kept: Sequence[int]) -> None:
        super().__init__()
        self.heads = heads
        self.provides = heads.provides
        self.register_buffer("kept", torch.tensor(kept, dtype=torch.int64), persistent=False)

    def classify(self, content: Tensor) -> Tensor:
        return self.heads.classify(content)

    def embed(self, content: Tensor) -> Tensor:
        return self.heads.embed(content)

    def boxes(self, content: Tensor, reference: Tensor) -> Tensor:
        return self.heads.boxes(content, reference)

    def forward(self, queries: Queries, mask_features: Tensor) -> Prediction:
        """mask_features (B, E, h, w) → the reading of the kept rows alone"""

        def rows(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.index_select(1, self.kept)

        content = queries.content.index_select(1, self.kept)
        extras = {**queries.extras, "kept_rows": self.kept}
        position, boxes = rows(queries.position), rows(queries.boxes)
        some = replace(queries, content=content, position=position, boxes=boxes, extras=extras)
        return self.heads(some, mask_features)
