"""Queries' votes to scores per class and pixel.

Shape legend: B images, Q queries, K classes, h×w the masks' grid, H×W pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Readout
from queryseg.types import Prediction


class Mixture(Readout):
    """score_c = Σ_q p_q(c) · sigmoid(mask_q), the semantic readout of MaskFormer, Mask2Former, EoMT and QPrompt.

    order  "classes_first" combines queries on the masks' own grid and resizes K score maps: several times cheaper.
           "masks_first" resizes Q mask logits and combines at full size: the literature's order.
           They differ by whether sigmoid comes before or after bilinear resizing, i.e. at borders.

    Source: Mask2Former §3; QPrompt-R1 spec §1.5.
    """

    def __init__(self, order: Literal["classes_first", "masks_first"] = "classes_first") -> None:
        super().__init__()
        self.order = order

    def probabilities(self, scores: Tensor) -> Tensor:
        """Scores over their sum where queries claim a pixel more than once, and as they are where the sum is below 1:
        the rest is the share that no query claims. Source: ours; the literature only ranks these scores."""
        return scores / scores.sum(1, keepdim=True).clamp(min=1)

    def scores(self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        masks, weights = prediction.mask_logits, prediction.class_scores
        if self.order == "masks_first":
            masks = F.interpolate(masks, size=canvas, mode="bilinear", align_corners=False)
        # channels-last in memory: resizing keeps it, and the argmax over classes then reads neighbours
        scores = torch.einsum("bqk,bqhw->bhwk", weights, masks.sigmoid()).permute(0, 3, 1, 2)
        if self.order == "classes_first":
            scores = F.interpolate(scores, size=canvas, mode="bilinear", align_corners=False)
        return scores[..., : size[0], : size[1]]
