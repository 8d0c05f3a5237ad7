"""Class layer and mask MLP.

Shape legend: B images, Q queries, K classes, D query width, E mask-embedding width, h×w a map.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from queryseg.contracts import Heads
from queryseg.errors import RecipeError
from queryseg.ops.layers import MLP
from queryseg.types import ClassChange, Dims, Prediction, Queries


class MaskHeads(Heads):
    """Class logits by one linear layer, mask logits as ⟨mask embedding, mask feature⟩.

    norm        LayerNorm before both heads (Mask2Former's decoder norm); QPrompt reads tokens that are normed already
    activation  of the mask MLP, three layers (Mask2Former ReLU; QPrompt and EoMT GELU)
    classes     softmax over K + 1 (the last is "no object") or K independent sigmoids

    With `class_vectors: shared` there are two vectors, for "this query's class" and "no object", whatever the class is.
    Then, and after `change_classes`, row k can only be class k or nothing: the other entries of its logits are −10⁴.
    Source: QPrompt-R1 §3.2, spec §1.4; Mask2Former §3; the shared vectors are ours.
    """

    OUT_OF_REACH = -1e4
    """A logit whose probability is exactly 0, and which half precision holds."""

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
        self.own_class: int | None = None
        """K if row k can only be class k."""
        num_outputs = dims.num_classes + self.softmax
        if dims.class_vectors == "shared":
            if not self.softmax:
                raise RecipeError("MaskHeads: class_vectors shared needs classes 'softmax', which tell 'no object'.")
            self.own_class, num_outputs = dims.num_classes, 2
            self.requires = frozenset({"class_rows"})
        self.class_embed = nn.Linear(width, num_outputs)
        self.mask_embed = MLP(width, width, dims.mask_channels, 3, activation)
        self.provides = frozenset({"no_object" if self.softmax else "sigmoid_classes"})

    def change_classes(self, change: ClassChange) -> None:
        """The class layer stays as it was trained: what it says of all trained classes together is one minus the
        probability of "no object"."""
        if not self.softmax:
            raise RecipeError(
                "MaskHeads with classes 'sigmoid' have no 'no object', which tells whether a query's own class is "
                "there; predict without other classes."
            )
        self.own_class = len(change.names)

    def classify(self, content: Tensor) -> Tensor:
        return self._own(self.class_embed(self.norm(content)), None)

    def _own(self, logits: Tensor, kept_rows: Tensor | None) -> Tensor:
        """(B, N, any + 1) → (B, N, K + 1) where rows have their own class. kept_rows (N,): what rows these are of
        all, or None: the first N"""
        if self.own_class is None:
            return logits
        every = torch.arange(self.own_class, device=logits.device)
        rows = every[: logits.shape[1]] if kept_rows is None else kept_rows
        present = logits[..., :-1].logsumexp(-1, keepdim=True)
        own = torch.where(rows[:, None] == every, present, self.OUT_OF_REACH)
        return torch.cat((own, logits[..., -1:]), -1)

    def embed(self, content: Tensor) -> Tensor:
        return self.mask_embed(self.norm(content))  # type: ignore[no-any-return]

    def forward(self, queries: Queries, mask_features: Tensor) -> Prediction:
        normed = self.norm(queries.content)
        logits = self._own(self.class_embed(normed), queries.extras.get("kept_rows"))
        embeddings = self.mask_embed(normed)
        scores = logits.softmax(-1)[..., :-1] if self.softmax else logits.sigmoid()
        masks = torch.einsum("bqe,behw->bqhw", embeddings, mask_features)
        return Prediction(logits, scores, masks, embeddings, mask_features, queries.content)
