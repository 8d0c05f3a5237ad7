"""Queries compete for pixels, and those that lose too much say nothing.

Shape legend: B images, Q queries, K classes, h×w the masks' grid, H×W pixels of the canvas, then of the image.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.errors import RecipeError
from queryseg.readouts.mixture import Mixture
from queryseg.readouts.segment_assembly import MASK_THRESHOLD
from queryseg.types import IGNORE, Candidates, Prediction

_FAINT = 1e-6
"""Weighs the scores of pixels that no region claims: below any region's."""


class RegionAssembly(Mixture):
    """SimCIS's readout for classes that are independent sigmoids, of classes as of segments.

    object_threshold    panoptic: queries take part whose best class has a higher score
    overlap_threshold   a region keeps at least this share of its query's mask, or is dropped; of classes also the other
                        way round ("both ways", spec §5): the mask is this share of the pixels that the query wins
    semantic_threshold  of classes: queries take part whose best class has at least this score
    temperature         panoptic: queries compete by the softmax of their class scores over it
    instance_threshold, top_k  see `Mixture`

    Of classes, a pixel whose region is dropped has the label 255, nothing. As scores, regions have class score × mask
    probability; elsewhere the scores of `Mixture` stand, a million times smaller, for those who must name a class.

    Source: SimCIS (CVPR 2025) as its code has it, spec §5, §6: object_threshold 0.2 to 0.3 by the number of classes per
    task (0.3: 10 classes); the semantic threshold is fixed there.
    """

    def __init__(
        self,
        object_threshold: float = 0.3,
        overlap_threshold: float = 0.8,
        semantic_threshold: float = 0.4,
        temperature: float = 0.06,
        instance_threshold: float = 0.5,
        top_k: int | None = None,
    ) -> None:
        super().__init__("masks_first", object_threshold, overlap_threshold, instance_threshold, top_k)
        if not 0 <= semantic_threshold <= 1:
            raise RecipeError(f"RegionAssembly's semantic_threshold is {semantic_threshold}; give a number in 0…1.")
        if temperature <= 0:
            raise RecipeError(f"RegionAssembly's temperature is {temperature}; give a number above 0.")
        self.semantic_threshold, self.temperature = semantic_threshold, temperature
        self.requires = frozenset({"sigmoid_classes"})

    @property
    def options(self) -> dict[str, Any]:
        """What makes another one that reads alike."""
        own = {"semantic_threshold": self.semantic_threshold, "temperature": self.temperature}
        return {name: value for name, value in super().options.items() if name != "order"} | own

    def candidates(self, prediction: Prediction) -> Candidates:
        confidence, labels = prediction.class_scores.max(-1)
        return Candidates(labels, confidence, (prediction.class_scores / self.temperature).softmax(-1).amax(-1))

    def scores(self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        faint = _FAINT * super().scores(prediction, canvas, size)
        strength, label = self._regions(prediction, canvas)
        claimed = torch.zeros_like(faint)
        where = (slice(None), slice(None, size[0]), slice(None, size[1]))
        claimed = claimed.scatter(1, label[where][:, None], strength[where][:, None].to(claimed.dtype))
        return torch.where(strength[where][:, None] > 0, claimed, faint)

    def labels(self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """(B, H, W) uint8 class indices, 255 = nothing."""
        strength, label = self._regions(prediction, canvas)
        return torch.where(strength > 0, label, IGNORE)[:, : size[0], : size[1]].byte()

    def _regions(self, prediction: Prediction, canvas: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Of every pixel of the canvas, class score × mask probability (B, H, W) of the region it is in, 0 if in none,
        and its class (B, H, W) int64."""
        confidence, labels = prediction.class_scores.max(-1)
        taken = confidence >= self.semantic_threshold
        masks = F.interpolate(prediction.mask_logits, size=canvas, mode="bilinear", align_corners=False).sigmoid()
        inside = masks >= MASK_THRESHOLD
        strength, owner = (torch.where(taken, confidence, 0)[..., None, None] * masks).max(1)
        owned = owner[:, None] == torch.arange(masks.shape[1], device=masks.device)[:, None, None]
        own, won = inside.sum((2, 3)), owned.sum((2, 3))
        share = self.overlap_threshold
        kept = taken & (own > 0) & (won >= share * own) & (own >= share * won)
        in_region = (owned & inside & kept[..., None, None]).any(1)
        return strength * in_region, labels.gather(1, owner.flatten(1)).view_as(owner)
