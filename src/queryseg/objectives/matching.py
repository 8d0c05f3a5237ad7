"""Which query answers for which segment.

Shape legend: L supervised readings, B images, Q queries, H×W pixels, M segments of one image, T segments of the batch,
N matched pairs of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from queryseg.errors import RecipeError
from queryseg.objectives.mask_losses import at_least_float32, pairwise_mask_bce, pairwise_mask_dice
from queryseg.ops.boxes import boxes_of_corners, mask_corners
from queryseg.ops.point_sampling import sample_maps, sample_masks
from queryseg.types import Prediction, Target

BROKEN = -1e10
"""Cost of a pair whose cost is not a number."""


@dataclass(frozen=True)
class Segments:
    """The targets of a batch, image after image, so that losses need no loop over images.

    labels  (T,) int64
    masks   (T, H, W) bool
    image   (T,) int64, the image that a segment belongs to
    counts  segments of each image; may be 0
    """

    labels: Tensor
    masks: Tensor
    image: Tensor
    counts: list[int]

    @classmethod
    def of(cls, targets: Sequence[Target]) -> Segments:
        return cls(
            torch.cat([t.labels for t in targets]),
            torch.cat([t.masks for t in targets]),
            torch.cat([torch.full_like(t.labels, b) for b, t in enumerate(targets)]),
            [len(t.labels) for t in targets],
        )

    @cached_property
    def corners(self) -> Tensor:
        """(T, 4) int64, see `mask_corners`"""
        return mask_corners(self.masks)

    def boxes(self, dtype: torch.dtype) -> Tensor:
        """(T, 4) as (cx, cy, w, h) around the masks, in [0, 1] of the canvas"""
        return boxes_of_corners(self.corners, (self.masks.shape[-2], self.masks.shape[-1]), dtype)

    def padded(self, boxes: torch.dtype | None = None) -> tuple[Tensor, ...]:
        """labels (B, M), masks (B, M, H, W) and, in the dtype asked for, boxes (B, M, 4), M of the fullest image; the
        padding repeats the batch's first segment."""
        every = torch.arange(len(self.labels), device=self.labels.device)
        index = pad_sequence(list(torch.split(every, self.counts)), batch_first=True)
        found = self.labels[index], self.masks[index]
        return found if boxes is None else (*found, self.boxes(boxes)[index])


@dataclass(frozen=True)
class Assignment:
    """N pairs: query `row` (N,) of image `image` (N,) answers for segment `target` (N,) of `Segments`; all int64."""

    image: Tensor
    row: Tensor
    target: Tensor


class Matcher(ABC):
    """Pairs queries with segments. `requires`: capabilities that the criterion asks for in its name."""

    requires: frozenset[str] = frozenset()

    @abstractmethod
    def match(self, predictions: Sequence[Prediction], segments: Segments) -> list[Assignment]:
        """One assignment per reading. All readings come at once, so that a matcher can wait for the device once."""


class FixedAssignment(Matcher):
    """Row k answers for class k, in every reading. For targets with at most one segment per class.

    Source: tqdm spec §4.
    """

    requires = frozenset({"class_rows"})

    def match(self, predictions: Sequence[Prediction], segments: Segments) -> list[Assignment]:
        every = torch.arange(len(segments.labels), device=segments.labels.device)
        return [Assignment(segments.image, segments.labels, every)] * len(predictions)


class Hungarian(Matcher):
    """The one-to-one assignment of least cost, for each image and reading on its own.

    Costs are built on the device for all images of a reading, cross to the host together for all readings, and the
    pairs cross back together: two crossings per step, however many readings are supervised.

    class_cost, mask_cost, dice_cost  weights of −p(label), BCE and dice
    num_points                        uniform points per image and reading, shared by its queries and segments

    Source: Mask2Former (Cheng et al. 2022) §3.3 and its public code. Deviation: there, a pair whose cost is not a
    number is avoided; here it is preferred, so that the loss shows what broke and training stops at that step.
    """

    def __init__(
        self, class_cost: float = 2.0, mask_cost: float = 5.0, dice_cost: float = 5.0, num_points: int = 12544
    ) -> None:
        check_num_points(num_points)
        self.class_cost, self.mask_cost, self.dice_cost = class_cost, mask_cost, dice_cost
        self.num_points = num_points

    @torch.no_grad()
    def match(self, predictions: Sequence[Prediction], segments: Segments) -> list[Assignment]:
        device = segments.labels.device
        wanted = segments.padded(self.box_type(predictions[0]))
        with torch.autocast(device.type, enabled=False):  # it would take the matrix products in half precision
            costs = torch.stack([self.costs(p, *wanted) for p in predictions])
        costs = costs.nan_to_num(BROKEN, BROKEN, BROKEN).cpu()  # (L, B, Q, M), the one wait for the device
        pairs = torch.from_numpy(np.stack([self.solve(c.numpy(), segments.counts) for c in costs])).to(device)
        return [Assignment(*reading) for reading in pairs]

    def costs(self, prediction: Prediction, labels: Tensor, masks: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Of every query for every segment of its image: labels (B, M), masks (B, M, H, W) bool, boxes (B, M, 4) if
        needed → (B, Q, M)."""
        logits = at_least_float32(prediction.mask_logits)
        points = torch.rand(len(logits), self.num_points, 2, dtype=logits.dtype, device=logits.device)
        queries, targets = sample_maps(logits, points), sample_masks(masks, points)
        return (
            self.class_cost * self.class_costs(prediction, labels)
            + self.mask_cost * pairwise_mask_bce(queries, targets)
            + self.dice_cost * pairwise_mask_dice(queries, targets)
        )

    def box_type(self, prediction: Prediction) -> torch.dtype | None:
        """In which `costs` needs the segments' boxes; None: it needs none."""
        return None

    def class_costs(self, prediction: Prediction, labels: Tensor) -> Tensor:
        """−p(label): labels (B, M) → (B, Q, M)"""
        scores = at_least_float32(prediction.class_scores)
        return -scores.gather(2, labels[:, None].expand(-1, scores.shape[1], -1))

    def costs_of_targets(self, prediction: Prediction, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Costs (B, Q, M) for rewards, differentiable, ∞ where an image has fewer than M segments, and the segments'
        labels (B, M); M of the fullest image, at least 1."""
        segments = Segments.of(targets)
        if max(segments.counts) == 0:
            costs = prediction.class_scores.new_full((*prediction.class_scores.shape[:2], 1), torch.inf)
            return costs, segments.labels.new_zeros(len(targets), 1)
        wanted = segments.padded(self.box_type(prediction))
        labels = wanted[0]
        columns = torch.arange(labels.shape[1], device=labels.device)
        missing = columns >= torch.tensor(segments.counts, device=labels.device)[:, None]
        return self.costs(prediction, *wanted).masked_fill(missing[:, None], torch.inf), labels

    @staticmethod
    def solve(costs: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """costs (B, Q, M of the fullest image) → (3, N) image, query row, segment; N = Σ min(Q, count)"""
        pairs, first = [], 0
        for image, count in enumerate(counts):
            rows, columns = linear_sum_assignment(costs[image, :, :count])
            pairs.append(np.stack([np.full_like(rows, image), rows, columns + first]))
            first += count
        return np.concatenate(pairs, 1)


def check_num_points(num_points: int) -> None:
    """Raises: RecipeError"""
    if num_points < 1:
        raise RecipeError(f"num_points is {num_points}, but must be at least 1.")
