"""The loss of set prediction.

Shape legend: N matched pairs of the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.objectives.mask_losses import at_least_float32
from queryseg.objectives.matched_criterion import MatchedCriterion
from queryseg.objectives.matching import Assignment, Hungarian, Matcher, Segments
from queryseg.types import Dims, Prediction


class SetCriterion(MatchedCriterion):
    """Every supervised reading of the queries against the segments of its image: class cross-entropy over all queries,
    BCE and dice over the matched ones, each summed over readings.

    matcher           maker of the assignment: Hungarian, or FixedAssignment where row k stands for class k
    no_object_weight  of queries without a segment, in the cross-entropy
    num_points        per mask; oversample_ratio, importance_ratio: see `importance_points`
    *_weight          of the terms in the training loss

    Source: Mask2Former (Cheng et al. 2022) §3.3 and its public code; QPrompt-R1 spec §2 with the same numbers.
    """

    balance: Tensor

    def __init__(
        self,
        dims: Dims,
        matcher: Callable[[], Matcher] = Hungarian,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_ratio: float = 0.75,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
    ) -> None:
        super().__init__(matcher(), num_points, oversample_ratio, importance_ratio)
        self.requires = self.matcher.requires | {"no_object"}
        self.weights = {"class": class_weight, "mask": mask_weight, "dice": dice_weight}
        balance = torch.ones(dims.num_classes + 1)
        balance[-1] = no_object_weight
        self.register_buffer("balance", balance, persistent=False)

    def terms(
        self, prediction: Prediction, pairs: Assignment, segments: Segments, num_segments: Tensor
    ) -> dict[str, Tensor]:
        bce, dice = self.mask_losses(prediction, pairs, segments)
        return {
            "class": self.class_loss(prediction, pairs, segments),
            "mask": bce.sum() / num_segments,
            "dice": dice.sum() / num_segments,
        }

    def class_loss(self, prediction: Prediction, pairs: Assignment, segments: Segments) -> Tensor:
        """Cross-entropy, mean over all queries weighted by the class they should name; unmatched: "no object"."""
        logits = at_least_float32(prediction.class_logits)
        wanted = pairs.row.new_full(logits.shape[:2], logits.shape[2] - 1)
        wanted[pairs.image, pairs.row] = segments.labels[pairs.target]
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), self.balance.to(logits.dtype))
