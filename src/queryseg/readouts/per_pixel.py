"""Class logits of pixels to scores.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Readout
from queryseg.types import Prediction


class PerPixel(Readout):
    """Row k's mask logits are the pixels' logits of class k; resized, they are the scores. For the MLP head."""

    requires = frozenset({"class_rows"})

    def probabilities(self, scores: Tensor) -> Tensor:
        """The softmax that training's cross-entropy takes."""
        return scores.softmax(1)

    def scores(self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        scores = F.interpolate(prediction.mask_logits, size=canvas, mode="bilinear", align_corners=False)
        return scores[..., : size[0], : size[1]]
