"""Matching where classes are independent and queries have boxes.

Shape legend: B images, Q queries, M segments of one image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from queryseg.objectives.mask_losses import at_least_float32
from queryseg.objectives.matching import Hungarian
from queryseg.ops.boxes import generalized_iou
from queryseg.types import Prediction


class FocalHungarian(Hungarian):
    """`Hungarian` with the focal loss as the cost of a class, and costs of boxes.

    class_cost             of focal(p, 1) − focal(p, 0), with α = 0.25, γ = 2: 4 for panoptic, 2 for semantic training
    mask_cost, dice_cost   see `Hungarian`
    box_cost, giou_cost    of the L1 distance between boxes and of −GIoU; both 0: queries need no boxes
    num_points             see `Hungarian`

    Source: SimCIS (CVPR 2025) as its code has it, spec §4; the class cost is Deformable DETR's.
    """

    def __init__(
        self,
        class_cost: float = 4.0,
        mask_cost: float = 5.0,
        dice_cost: float = 5.0,
        box_cost: float = 5.0,
        giou_cost: float = 2.0,
        num_points: int = 12544,
    ) -> None:
        super().__init__(class_cost, mask_cost, dice_cost, num_points)
        self.box_cost, self.giou_cost = box_cost, giou_cost
        self.needs_boxes = box_cost != 0 or giou_cost != 0
        self.requires = frozenset({"sigmoid_classes"} | ({"boxes"} if self.needs_boxes else set()))

    def costs(self, prediction: Prediction, labels: Tensor, masks: Tensor, boxes: Tensor | None = None) -> Tensor:
        costs = super().costs(prediction, labels, masks)
        if boxes is None:
            return costs
        assert prediction.boxes is not None  # the matcher asks for "boxes"
        found = at_least_float32(prediction.boxes)
        overlap = generalized_iou(found[:, :, None], boxes[:, None])
        return costs + self.box_cost * torch.cdist(found, boxes, p=1) - self.giou_cost * overlap

    def box_type(self, prediction: Prediction) -> torch.dtype | None:
        if not self.needs_boxes:
            return None
        assert prediction.boxes is not None  # see above
        return torch.promote_types(prediction.boxes.dtype, torch.float32)

    def class_costs(self, prediction: Prediction, labels: Tensor) -> Tensor:
        """labels (B, M) → (B, Q, M)"""
        scores = at_least_float32(prediction.class_scores)
        p = scores.gather(2, labels[:, None].expand(-1, scores.shape[1], -1))
        return -0.25 * (1 - p) ** 2 * (p + 1e-8).log() + 0.75 * p**2 * (1 - p + 1e-8).log()
