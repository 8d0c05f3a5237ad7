"""What an older model finds becomes a target where nobody labelled anything.

Shape legend: B images, Q queries, K classes, C candidates, M segments, h×w the masks' grid, H×W the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.errors import RecipeError
from queryseg.full_precision import at_least_float32
from queryseg.objectives.class_indices import check_classes
from queryseg.types import IGNORE, Candidates, Dims, Prediction, Queries, Target

THRESHOLDS = {"panoptic": 0.35, "semantic": 0.0}
"""Least score of a candidate, by task, where the recipe names none."""


class PseudoLabels(Objective):
    """Adds the segments that the model of the task before is sure of to the targets of all objectives; has no loss of
    its own. Name it before the objectives that should see them.

    current_classes  class indices that this task labels, in the order in which they came; (): all that are labelled
    task             panoptic: a segment per query; semantic: segments of one class become one
    threshold        of a candidate's best class score; None: 0.35 for panoptic, 0 for semantic targets
    overlap          a candidate keeps more than this share of its own mask, or it is dropped
    temperature      panoptic candidates compete by the softmax of their class scores over it

    An image with a label of no current class (a replayed one) keeps its targets as they are. A candidate of the
    first current class is dropped, one of a later class is not, as in the authors' code; the model of the task before
    learned to name neither. On the label map, pixels of pseudo-labels are no longer ignored.
    Source: SimCIS (CVPR 2025) §5.1 as its code has it, spec §4.
    """

    references = frozenset({"previous_task"})
    requires = frozenset({"sigmoid_classes"})

    def __init__(
        self,
        dims: Dims,
        current_classes: Sequence[int] = (),
        task: Literal["panoptic", "semantic"] = "panoptic",
        threshold: float | None = None,
        overlap: float = 0.8,
        temperature: float = 0.06,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise RecipeError(f"PseudoLabels: temperature is {temperature}; give a number above 0.")
        check_classes("PseudoLabels: current_classes", current_classes, dims)
        self.current_classes = tuple(current_classes)
        self.merge = task == "semantic"
        self.threshold = THRESHOLDS[task] if threshold is None else threshold
        self.overlap, self.temperature = overlap, temperature

    @torch.no_grad()
    def prepare(self, queries: Queries, targets: list[Target], step: Step) -> tuple[Queries, list[Target]]:
        found = step.reference("previous_task").output().final
        return queries, self.added(found, targets)

    def added(self, found: Prediction, targets: list[Target]) -> list[Target]:
        """The targets with what `found` says of the same images, which comes first."""
        return [self._added(*one) for one in zip(found.class_scores, found.mask_logits, targets, strict=True)]

    def _added(self, class_scores: Tensor, mask_logits: Tensor, target: Target) -> Target:
        current = target.labels.new_tensor(self.current_classes)
        if self.current_classes and not bool(torch.isin(target.labels, current).all()):
            return target
        labels, masks = self.segments(class_scores, mask_logits, target.masks.any(0))
        label_map = target.label_map
        for label, mask in zip(labels, masks, strict=True):
            label_map = torch.where(mask & (label_map == IGNORE), label, label_map)
        return replace(
            target,
            labels=torch.cat((labels, target.labels)),
            masks=torch.cat((masks, target.masks)),
            label_map=label_map,
            num_pseudo=len(labels),
        )

    def candidates(self, class_scores: Tensor) -> tuple[Tensor, Candidates]:
        """class_scores (Q, K) of one image → the queries (C,) that take part, and what they offer, best first."""
        confidence, labels = class_scores.max(-1)
        taken = confidence > self.threshold
        if self.current_classes:
            taken &= labels != self.current_classes[0]
        scores = confidence if self.merge else (class_scores / self.temperature).softmax(-1).amax(-1)
        rows = taken.nonzero().flatten()
        rows = rows[scores[rows].argsort(descending=True, stable=True)]
        return rows, Candidates(labels[rows], confidence[rows], scores[rows])

    def segments(self, class_scores: Tensor, mask_logits: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
        """class_scores (Q, K), mask_logits (Q, h, w), labelled (H, W) bool → labels (M,), masks (M, H, W) bool that
        share no pixel with each other or with what is labelled"""
        rows, offered = self.candidates(at_least_float32(class_scores))
        size = (labelled.shape[-2], labelled.shape[-1])
        if not len(rows):
            return offered.labels, labelled.new_zeros(0, *size)
        masks = enlarged(mask_logits[rows], size)
        owner = (offered.scores[:, None, None] * masks).argmax(0)
        inside = masks >= 0.5
        every = torch.arange(len(rows), device=rows.device)[:, None, None]
        regions = (owner == every) & inside & ~labelled
        areas = regions.sum((1, 2))
        kept = (areas > 0) & (areas > self.overlap * inside.sum((1, 2)))
        labels, regions = offered.labels[kept], regions[kept]
        if not self.merge:
            return labels, regions
        classes = torch.unique(labels)
        return classes, ((labels == classes[:, None])[..., None, None] & regions).any(1)


def enlarged(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, h, w) logits → (C, H, W) probabilities"""
    logits = at_least_float32(mask_logits)[:, None]  # no interpolation of no channels, but of no images
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0].sigmoid()
