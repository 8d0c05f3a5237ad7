"""What losses of set prediction share: readings are matched with segments, and matched masks are compared.

Shape legend: B images, N matched pairs of the batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.objectives.mask_losses import at_least_float32, mask_bce, mask_dice
from queryseg.objectives.matching import Assignment, Matcher, Segments, check_num_points
from queryseg.ops.point_sampling import importance_points, sample_maps, sample_masks
from queryseg.types import Output, Prediction, Target


class MatchedCriterion(Objective):
    """Terms of every supervised reading of the queries against the segments of its image, summed over readings. BCE and
    dice of the matched masks are divided by the number of segments per rank, averaged over ranks and at least 1.
    """

    def __init__(self, matcher: Matcher, num_points: int, oversample_ratio: float, importance_ratio: float) -> None:
        super().__init__()
        check_num_points(num_points)
        self.matcher = matcher
        self.num_points, self.oversample_ratio, self.importance_ratio = num_points, oversample_ratio, importance_ratio

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        segments = Segments.of(targets)
        num_segments = mean_over_ranks(len(segments.labels), segments.labels.device).clamp(min=1)
        total: dict[str, Tensor] = {}
        assignments = self.matcher.match(output.predictions, segments)
        for prediction, pairs in zip(output.predictions, assignments, strict=True):
            terms = self.terms(prediction, pairs, segments, num_segments)
            total = {name: total.get(name, 0) + term for name, term in terms.items()}
        return total

    @abstractmethod
    def terms(
        self, prediction: Prediction, pairs: Assignment, segments: Segments, num_segments: Tensor
    ) -> Mapping[str, Tensor]:
        """Unweighted scalars of one reading; num_segments: what sums are divided by."""

    def mask_losses(self, prediction: Prediction, pairs: Assignment, segments: Segments) -> tuple[Tensor, Tensor]:
        """BCE (N,) and dice (N,) of the matched masks, at points drawn for each of them."""
        matched = at_least_float32(matched_rows(prediction.mask_logits, pairs))
        with torch.no_grad():
            points = importance_points(matched, self.num_points, self.oversample_ratio, self.importance_ratio)
            targets = sample_masks(segments.masks[pairs.target][:, None], points)[:, 0]
        logits = sample_maps(matched[:, None], points)[:, 0]
        return mask_bce(logits, targets), mask_dice(logits, targets)


def matched_rows(rows: Tensor, pairs: Assignment) -> Tensor:
    """(B, Q, …) → (N, …)"""
    # index_select, not [image, row]: its gradient adds rows where the other scatters single pixels
    return rows.flatten(0, 1).index_select(0, pairs.image * rows.shape[1] + pairs.row)


def mean_over_ranks(value: float, device: torch.device) -> Tensor:
    """The mean of every rank's value; the value itself outside of distributed training. Scalar, float32."""
    mean = torch.full((), value, dtype=torch.float32, device=device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    return mean
