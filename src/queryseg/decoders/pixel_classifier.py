"""Pixels classified without queries.

Shape legend: B images, K classes, N rows, E width of the pixel embeddings, h×w the patch grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from queryseg.contracts import Backbone, Decoder, Heads, QuerySource
from queryseg.decoders.query_injection import check_own_tokens
from queryseg.decoders.token_reading import read_tokens
from queryseg.decoders.upsampler import Upsampler
from queryseg.types import Dims, Features, Prediction, Queries


class ClassVectors(Heads):
    """A 1×1 convolution, read as one row per class that is certain of it; mask logits are the pixels' class logits."""

    provides = frozenset({"class_rows"})

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.vectors = nn.Linear(dims.mask_channels, dims.num_classes)

    def classify(self, content: Tensor) -> Tensor:
        return self.vectors(content)  # type: ignore[no-any-return]

    def embed(self, content: Tensor) -> Tensor:
        return content

    def forward(self, queries: Queries, mask_features: Tensor) -> Prediction:
        """queries: not read."""
        batch, vectors = mask_features.shape[0], self.vectors.weight
        rows = vectors.expand(batch, -1, -1)
        certain = torch.eye(len(vectors), dtype=vectors.dtype, device=vectors.device).expand(batch, -1, -1)
        masks = torch.einsum("ke,behw->bkhw", vectors, mask_features) + self.vectors.bias[:, None, None]
        return Prediction(certain, certain, masks, rows, mask_features, rows)


class PixelClassifier(Decoder):
    """MLP head: QPrompt's upsampler on the trunk's last tokens, then a 1×1 convolution to classes.

    Goes with the query source NoQueries, the objective PixelCrossEntropy and the readout PerPixel.
    Source: QPrompt-R1 Table 7 ("MLP head"); spec §2.
    """

    provides = frozenset({"token_space", "complete_trunk"})

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        check_own_tokens(type(self).__name__, dims)
        self.dims = dims
        self.upsampler = Upsampler(dims.embed, dims.strides[-1])
        self.heads = ClassVectors(dims)

    def forward(
        self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource
    ) -> Sequence[Prediction]:
        tokens = backbone.finish(features.trunk).patches.permute(0, 3, 1, 2)
        return [read_tokens(self.heads, self.upsampler, queries, tokens, self.strip_tokens)]
