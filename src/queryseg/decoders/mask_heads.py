"""Class layer and mask MLP.

Shape legend: B images, Q queries, K classes, D query width, E mask-embedding width, h×w a map.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from queryseg.contracts import Heads
from queryseg.ops.layers import MLP
from queryseg.types import Dims, Prediction, Queries


class MaskHeads(Heads):
    """Class logits by one linear layer, mask logits as ⟨mask embedding, mask feature⟩.

    norm        LayerNorm before both heads (Mask2Former's decoder norm); QPrompt reads tokens that are normed already
    activation  of the mask MLP, three layers (Mask2Former ReLU; QPrompt and EoMT GELU)
    classes     softmax over K + 1 (the last is "no object") or K independent sigmoids

    Source: QPrompt-R1 §3.2, spec §1.4; Mask2Former §3.
    """

    def __init__(
        self,
        dims: Dims,
        norm: bool = True,
        activation: Literal["relu", "gelu"] = "relu",
        classes: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        super().__init__()
        width = dims.width
        self.softmax = classes == "softmax"
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.class_embed = nn.Linear(width, dims.num_classes + self.softmax)
        self.mask_embed = MLP(width, width, dims.mask_channels, 3, activation)
        self.provides = frozenset({"no_object" if self.softmax else "sigmoid_classes"})

    def classify(self, content: Tensor) -> Tensor:
        return self.class_embed(self.norm(content))  # type: ignore[no-any-return]

    def embed(self, content: Tensor) -> Tensor:
        return self.mask_embed(self.norm(content))  # type: ignore[no-any-return]

    def forward(self, queries: Queries, mask_features: Tensor) -> Prediction:
        normed = self.norm(queries.content)
        logits, embeddings = self.class_embed(normed), self.mask_embed(normed)
        scores = logits.softmax(-1)[..., :-1] if self.softmax else logits.sigmoid()
        masks = torch.einsum("bqe,behw->bqhw", embeddings, mask_features)
        return Prediction(logits, scores, masks, embeddings, mask_features, queries.content)
