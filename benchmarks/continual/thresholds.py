"""Which answers of a model should become pseudo-labels? Found and false segments by the settings of `PseudoLabels`.

    python benchmarks/continual/thresholds.py runs/continual/streets_11-2_panoptic/{selected,learnable}/order_0/step_1
    python benchmarks/continual/thresholds.py runs/continual/streets_11-2_semantic/{selected,learnable}/order_0/step_1

Of panoptic runs by the least score; of semantic ones, which need none, by the share of its own mask that a query must
keep. On generated streets that no run has seen. A pseudo-label is right if a labelled segment of its class has an IoU
above 0.5 with it; things are told apart in panoptic runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from unseen_streets import SAME, Figures, Step, ask_steps

from queryseg.objectives import PseudoLabels
from queryseg.types import Task

SETTINGS: Mapping[Task, Mapping[str, Sequence[float]]] = {
    "panoptic": {"threshold": (0.15, 0.2, 0.25, 0.3, 0.35, 0.4)},
    "semantic": {"overlap": (0.0, 0.25, 0.5, 0.65, 0.8)},
}
"""What is varied, by the task of a run."""


class Counts:
    """(K,) of every class: labelled segments, and for each setting pseudo-labels and those of them that are right."""

    def __init__(self, values: Sequence[float], num_classes: int) -> None:
        self.values = values
        self.labelled = torch.zeros(num_classes)
        self.made = torch.zeros(len(values), num_classes)
        self.right = torch.zeros(len(values), num_classes)

    def add(self, place: int, found: tuple[Tensor, Tensor], labels: Tensor, masks: Tensor) -> None:
        """What the setting at `place` gives for one image, beside its labelled segments."""
        for label, mask in zip(*found, strict=True):
            same = masks[labels == label]
            union = (same | mask).sum((1, 2))
            self.made[place, label] += 1
            self.right[place, label] += bool(((same & mask).sum((1, 2)) > SAME * union).any())

    def summary(self) -> Figures:
        """Setting → the share of labelled segments that are found, mean over classes, and of pseudo-labels that are
        right, all classes together."""
        there = self.labelled > 0
        found = (self.right / self.labelled)[:, there].mean(1)
        right = self.right.sum(1) / self.made.sum(1)
        shares = zip(self.values, found.tolist(), right.tolist(), strict=True)
        return {str(one): {"found": round(f, 3), "right": round(r, 3)} for one, f, r in shares}


def count(step: Step, num_images: int) -> Figures:
    """Classes that the step was not taught are no one's segments."""
    ((name, values),) = SETTINGS[step.task].items()
    dims = step.model.dims
    counts = Counts(values, len(dims.class_names))
    makers = [PseudoLabels(dims, task=step.task, **{name: value}) for value in values]
    for answer, labels, masks in step.answers(num_images):
        counts.labelled.index_add_(0, labels, torch.ones(len(labels)))
        nothing = torch.zeros(masks.shape[-2:], dtype=torch.bool)
        for place, maker in enumerate(makers):
            found = maker.segments(answer.class_scores[0], answer.mask_logits[0], nothing)
            counts.add(place, found, labels, masks)
    return counts.summary()


def lines(found: Figures) -> Iterator[str]:
    for value, shares in found.items():
        yield f"above {value}: {shares['found']:.1%} found, {shares['right']:.1%} right"


if __name__ == "__main__":
    ask_steps(__doc__, count, lines, {"right_above_iou": SAME})
