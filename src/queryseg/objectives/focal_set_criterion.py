"""The loss of set prediction where classes are independent and queries have boxes.

Shape legend: B images, Q queries, K classes, N matched pairs of the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from queryseg.objectives.focal_hungarian import FocalHungarian
from queryseg.objectives.mask_losses import at_least_float32
from queryseg.objectives.matched_criterion import MatchedCriterion, matched_rows
from queryseg.objectives.matching import Assignment, Matcher, Segments
from queryseg.ops.boxes import generalized_iou
from queryseg.types import Dims, Prediction


class FocalSetCriterion(MatchedCriterion):
    """Every supervised reading of the queries against the segments of its image: the focal loss of all queries and
    classes, BCE, dice, L1 and GIoU of the matched masks and boxes. A query without a segment should name no class. All
    terms are sums over the batch, divided by the number of its segments.

    matcher           maker of the assignment
    num_points        per mask; oversample_ratio, importance_ratio: see `importance_points`
    *_weight          of the terms in the training loss; class_weight: 4 for panoptic, 2 for semantic training;
                      box_weight and giou_weight both 0: queries need no boxes

    Source: SimCIS (CVPR 2025) as its code has it, spec §4 (the paper says "as Mask2Former"); focal loss with α = 0.25,
    γ = 2 (Lin et al. 2017).
    """

    def __init__(
        self,
        dims: Dims,
        matcher: Callable[[], Matcher] = FocalHungarian,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_ratio: float = 0.75,
        class_weight: float = 4.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
    ) -> None:
        super().__init__(matcher(), num_points, oversample_ratio, importance_ratio)
        self.weights = {"class": class_weight, "mask": mask_weight, "dice": dice_weight}
        self.has_boxes = box_weight != 0 or giou_weight != 0
        self.requires = self.matcher.requires | {"sigmoid_classes"}
        if self.has_boxes:
            self.weights |= {"box": box_weight, "giou": giou_weight}
            self.requires |= {"boxes"}

    def terms(
        self, prediction: Prediction, pairs: Assignment, segments: Segments, num_segments: Tensor
    ) -> dict[str, Tensor]:
        bce, dice = self.mask_losses(prediction, pairs, segments)
        labels = segments.labels[pairs.target]
        sums = {
            "class": focal_loss(prediction.class_logits, pairs.image, pairs.row, labels),
            "mask": bce.sum(),
            "dice": dice.sum(),
        }
        if self.has_boxes:
            distances, losses = self.box_losses(prediction, pairs, segments)
            sums |= {"box": distances.sum(), "giou": losses.sum()}
        return {name: value / num_segments for name, value in sums.items()}

    def box_losses(self, prediction: Prediction, pairs: Assignment, segments: Segments) -> tuple[Tensor, Tensor]:
        """L1 distances (N,), summed over four numbers, and 1 − GIoU (N,) of the matched boxes."""
        assert prediction.boxes is not None  # whoever has these terms requires "boxes"
        found = at_least_float32(matched_rows(prediction.boxes, pairs))
        wanted = segments.boxes(found.dtype)[pairs.target]
        return (found - wanted).abs().sum(-1), 1 - generalized_iou(found, wanted)


def focal_loss(class_logits: Tensor, image: Tensor, row: Tensor, labels: Tensor) -> Tensor:
    """Sum over all queries and classes; the ones are at (image, row, labels), each (N,).

    class_logits (B, Q, K) → scalar, in float32 or better
    """
    logits = at_least_float32(class_logits)
    wanted = torch.zeros_like(logits)
    wanted[image, row, labels] = 1
    return sigmoid_focal_loss(logits, wanted, alpha=0.25, gamma=2, reduction="sum")  # type: ignore[no-any-return]
