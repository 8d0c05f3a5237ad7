"""DINO-R1's query objective, for comparison with GRQA.

Shape legend: B images, Q queries, K classes, M segments of one image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.errors import RecipeError
from queryseg.objectives.group_alignment import k3
from queryseg.objectives.mask_losses import at_least_float32
from queryseg.objectives.matching import Hungarian
from queryseg.types import Dims, Output, Target


class GRQO(Objective):
    """Group-relative query optimisation: every query learns to cost less than its image's mean query, for the segment
    that it fits best; no ratio, no clipping, no groups within an image.

    start             share of the run after which it begins
    muted_share       queries with the lowest objectness, whose advantage is set to 0; without muting the advantages
                      sum to 0 and teach nothing
    advantage_weight  α; kl_weight: β of the k3 term between the objectness now and the reference's
    num_points        of the matching cost, per image

    Source: Pan et al., DINO-R1 (2025), adapted to masks as QPrompt-R1's Table 6 (spec §3, baselines §9): the cost is
    the matching cost of masks, objectness is 1 − p(no object), the reference is a moving average instead of a copy per
    epoch. Add `GRQA(reward="none")` for the image alignment of that table.
    """

    requires = frozenset({"no_object"})
    references = frozenset({"ema"})

    def __init__(
        self,
        dims: Dims,
        start: float = 2 / 3,
        muted_share: float = 1 / 3,
        advantage_weight: float = 0.01,
        kl_weight: float = 0.04,
        num_points: int = 12544,
    ) -> None:
        super().__init__()
        if not 0 < muted_share < 1:
            raise RecipeError(f"GRQO's muted_share is {muted_share}; give a share between 0 and 1, without the ends.")
        self.start, self.muted_share = start, muted_share
        self.weights = {"advantage": advantage_weight, "kl": kl_weight}
        self.matching = Hungarian(num_points=num_points)

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        if step.progress < self.start:
            return {}
        reading, reference = output.final, step.reference("ema")
        with torch.autocast(reading.content.device.type, enabled=False):
            costs = self.matching.costs_of_targets(reading, targets)[0].amin(2)  # (B, Q)
            labelled = costs.isfinite()
            objectness = log_objectness(reading.class_logits)
            with torch.no_grad():
                past = log_objectness(reference.model.heads.classify(reference.contents(output.queries)))
            advantages = standardised(-costs.where(labelled, 0)) * ~self.muted(objectness.detach())
            return {"advantage": -advantages.mean(), "kl": k3(objectness - past).mean()}

    def muted(self, objectness: Tensor) -> Tensor:
        """The lowest share of each image's queries: (B, Q) → (B, Q) bool"""
        num_muted = int(self.muted_share * objectness.shape[1])
        lowest = objectness.argsort(1)[:, :num_muted]
        return torch.zeros_like(objectness, dtype=torch.bool).scatter_(1, lowest, True)


def log_objectness(class_logits: Tensor) -> Tensor:
    """ln(1 − p(no object)), exact near 0: (B, Q, K+1) → (B, Q)"""
    logits = at_least_float32(class_logits)
    return logits[..., :-1].logsumexp(-1) - logits.logsumexp(-1)


def standardised(rewards: Tensor, eps: float = 2e-9) -> Tensor:
    """A = (r − μ) / (σ + ε) over the queries of an image, in the graph: (B, Q) → (B, Q); 0 where all are equal.

    Population σ. Source: DINO-R1, as the spec cites it.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    apart = variance > 0  # the root has no gradient at 0
    return torch.where(apart, centred / (variance.where(apart, 1).sqrt() + eps), 0)
