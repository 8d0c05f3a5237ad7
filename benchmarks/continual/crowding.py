"""How many queries outline one segment, and how sure of its class is the surest of them?

    python benchmarks/continual/crowding.py runs/continual/streets_11-2_panoptic/{selected,learnable}/order_2/step_1

Training matches one query with each segment and asks all others to name no class. If k queries outline a segment and
nothing tells which of them will be matched, then each is right with probability 1/k, and the focal loss is least at a
score that falls with k (`undecided_score`). On generated streets that no run has seen; a query outlines a segment from
an IoU above 0.5 on.

Shape legend: Q queries, K classes, M segments, h×w the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss
from unseen_streets import SAME, Figures, Step, ask_steps, outlines

from queryseg.metrics.mask_overlaps import mask_overlaps

MOST = 4
"""Segments with this many queries or more are counted together."""


def undecided_score(k: int) -> float:
    """The score of least focal loss (α = 0.25, γ = 2) for a query that is matched once in k times."""
    logits = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    matched, other = (sigmoid_focal_loss(logits, torch.full_like(logits, wanted)) for wanted in (1.0, 0.0))
    return float(logits[(matched / k + other * (1 - 1 / k)).argmin()].sigmoid())


UNDECIDED = {str(k): round(undecided_score(k), 3) for k in range(1, MOST + 1)}


def crowds(regions: Tensor, class_scores: Tensor, labels: Tensor, masks: Tensor) -> list[tuple[int, float]]:
    """regions (Q, h, w) bool, class_scores (Q, K), labels (M,), masks (M, h, w) bool → of every segment: how many
    queries outline it, and their highest score of its class, 0 without any."""
    on_it = mask_overlaps(regions, masks) > SAME
    best = torch.where(on_it, class_scores[:, labels], 0.0).amax(0)
    return list(zip(on_it.sum(0).tolist(), best.tolist(), strict=True))


def measure(step: Step, num_images: int) -> Figures:
    """Segments of classes that the step was taught are looked at."""
    found: list[tuple[int, float]] = []
    for answer, labels, masks in step.answers(num_images):
        found += crowds(outlines(answer, masks), answer.class_scores[0], labels, masks)
    return summary(found)


def summary(found: list[tuple[int, float]]) -> Figures:
    """By the number of queries: segments, and the mean of their highest scores."""
    outlined = [(min(k, MOST), score) for k, score in found if k]
    by_queries = {}
    for number in sorted({k for k, _ in outlined}):
        scores = [score for k, score in outlined if k == number]
        by_queries[str(number)] = {"segments": len(scores), "score": round(fmean(scores), 3)}
    return {"segments": len(found), "outlined": len(outlined), "by_queries": by_queries}


def lines(found: Figures) -> Iterator[str]:
    yield f"{found['outlined']} of {found['segments']} segments are outlined"
    for number, group in found["by_queries"].items():
        yield f"by {number}: {group['segments']}, score {group['score']} (undecided: {UNDECIDED[number]})"


if __name__ == "__main__":
    ask_steps(__doc__, measure, lines, {"outlined_above_iou": SAME, "undecided_score": UNDECIDED})
