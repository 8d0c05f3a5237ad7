"""Queries' votes to scores per class and pixel, or to segments.

Shape legend: B images, Q queries, K classes, h×w the masks' grid, H×W pixels.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Readout
from queryseg.errors import RecipeError
from queryseg.readouts.segment_assembly import enlarger, instance_segments, panoptic_segments
from queryseg.types import Candidates, Prediction, SegmentReading


class Mixture(Readout):
    """score_c = Σ_q p_q(c) · sigmoid(mask_q), the semantic readout of MaskFormer, Mask2Former, EoMT and QPrompt.

    order  "classes_first" combines queries on the masks' own grid and resizes K score maps: several times cheaper.
           "masks_first" resizes Q mask logits and combines at full size: the literature's order.
           They differ by whether sigmoid comes before or after bilinear resizing, i.e. at borders.

    For segments (`panoptic`, `instances`), see `segment_assembly.py`:

    object_threshold    panoptic: queries take part whose best class has a higher score
    overlap_threshold   panoptic: a segment keeps at least this share of its query's mask, or is dropped
    instance_threshold  instances: the least score, class × mask
    top_k               instances: pairs of query and class that are looked at; None: as many as queries

    Source: Mask2Former §3 and its public code's thresholds (instance_threshold: transformers'); QPrompt-R1 spec §1.5.
    """

    def __init__(
        self,
        order: Literal["classes_first", "masks_first"] = "classes_first",
        object_threshold: float = 0.8,
        overlap_threshold: float = 0.8,
        instance_threshold: float = 0.5,
        top_k: int | None = None,
    ) -> None:
        super().__init__()
        thresholds = {
            "object_threshold": object_threshold,
            "overlap_threshold": overlap_threshold,
            "instance_threshold": instance_threshold,
        }
        for name, value in thresholds.items():
            if not 0 <= value <= 1:
                raise RecipeError(f"Mixture's {name} is {value}; give a number from 0 to 1.")
        if top_k is not None and top_k < 1:
            raise RecipeError(f"Mixture's top_k is {top_k}; give at least 1, or null for as many as queries.")
        self.order = order
        self.object_threshold, self.overlap_threshold = object_threshold, overlap_threshold
        self.instance_threshold, self.top_k = instance_threshold, top_k

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

    @property
    def options(self) -> dict[str, Any]:
        """What makes another one that reads alike."""
        names = ("order", "object_threshold", "overlap_threshold", "instance_threshold", "top_k")
        return {name: getattr(self, name) for name in names}

    def candidates(self, prediction: Prediction) -> Candidates:
        """Every query's best class. Methods that score segments otherwise override this."""
        scores, labels = prediction.class_scores.max(-1)
        if prediction.class_logits.shape[-1] == prediction.class_scores.shape[-1]:  # independent sigmoids
            return Candidates(labels, scores, scores)
        return Candidates(labels, scores * prediction.active, scores)

    def panoptic(
        self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int], things: frozenset[int]
    ) -> list[SegmentReading]:
        offered = self.candidates(prediction)
        enlarge = enlarger(canvas, size)
        readings = []
        for masks, labels, confidence, scores in zip(
            prediction.mask_logits, offered.labels, offered.confidence, offered.scores, strict=True
        ):
            taken = confidence > self.object_threshold
            readings.append(
                panoptic_segments(
                    masks[taken], scores[taken], labels[taken], things, self.overlap_threshold, enlarge, size
                )
            )
        return readings

    def instances(
        self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int], things: frozenset[int]
    ) -> list[SegmentReading]:
        top_k = self.top_k or prediction.mask_logits.shape[1]
        enlarge = enlarger(canvas, size)
        return [
            instance_segments(masks, scores, things, top_k, self.instance_threshold, enlarge, size)
            for masks, scores in zip(prediction.mask_logits, prediction.class_scores, strict=True)
        ]
