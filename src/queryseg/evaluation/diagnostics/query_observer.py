"""Collects what queries do, image by image, in evaluation and during training.

Shape legend: N images (views, where the protocol has windows), B of them in one forward pass, Q queries, K classes,
E width of the space in which queries meet pixels, H×W the canvas, h×w the masks' grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.errors import RecipeError
from queryseg.evaluation.observation import Observation
from queryseg.metrics.mask_overlaps import mask_overlaps
from queryseg.metrics.objectness import best_overlaps
from queryseg.metrics.query_activity import NO_CLASS, overlap_sums
from queryseg.objectives.group_alignment import class_means
from queryseg.objectives.grqa import Space, queries_and_pixels
from queryseg.queries import NoQueries
from queryseg.segmenter import Segmenter

MIN_PIXELS = 16
"""A class with fewer pixels in the masks' grid has no mean in that image, as in GRQA."""


@dataclass(frozen=True)
class ObservedQueries:
    """Everything of a data set that figures are made from, on the CPU.

    classes      (N, Q) int64: what each active query stands for by the class head, −1 if it is not active
    embeddings   (N, Q, E) of length 1
    class_means  (N, K, E) f_c, mean of the unit pixel embeddings of a class in one image
    measured     (N, K) bool: the image has enough pixels of the class for f_c
    present      (N, K) bool: the image has any pixel labelled so
    overlaps     (2, 2): see `overlap_sums`; of the masks of active queries
    outlined     (N, K): see `best_overlaps`; of the masks of all queries
    """

    classes: Tensor
    embeddings: Tensor
    class_means: Tensor
    measured: Tensor
    present: Tensor
    overlaps: Tensor
    outlined: Tensor

    @property
    def num_images(self) -> int:
        return self.classes.shape[0]

    @property
    def num_queries(self) -> int:
        return self.classes.shape[1]

    @property
    def num_classes(self) -> int:
        return self.present.shape[1]


def has_queries(model: Segmenter) -> bool:
    """False for models that classify pixels without any."""
    return not isinstance(model.queries, NoQueries)


class QueryObserver:
    """An observer for `evaluate`. Changes nothing and draws no random number.

    space  where queries meet pixels, see `Space`; GRQA's default is "mask"

    Raises: RecipeError if the model has no queries, or nothing in that space
    """

    def __init__(self, model: Segmenter, space: Space = "mask") -> None:
        if not has_queries(model):
            raise RecipeError(
                f"The decoder {type(model.decoder).__name__} classifies pixels without queries, so there are none to "
                "diagnose; give a run of a model that has queries."
            )
        offered = frozenset[str]().union(*(part.provides for part in model.parts().values()))
        if space == "token" and "token_space" not in offered:
            raise RecipeError(
                f"The decoder {type(model.decoder).__name__} has no image tokens in the space of its query contents; "
                "compare in the space 'mask'."
            )
        self.num_classes, self.space = model.dims.num_classes, space
        self._parts: list[ObservedQueries] = []

    @torch.no_grad()
    def __call__(self, observation: Observation) -> None:
        reading, label_maps = observation.output.final, observation.label_maps
        classes = reading.class_scores.argmax(-1).masked_fill(~reading.active, NO_CLASS)
        queries, pixels = queries_and_pixels(reading, self.space)
        means, measured = class_means(pixels, label_maps, self.num_classes, MIN_PIXELS)
        present = [torch.bincount(m.flatten(), minlength=self.num_classes)[: self.num_classes] > 0 for m in label_maps]
        height, width = inside(observation)
        overlaps = torch.zeros(2, 2, dtype=torch.float64)
        outlined = []
        grid = F.interpolate(label_maps[:, None], reading.mask_logits.shape[-2:], mode="nearest")[:, 0]
        for masks, labels, own in zip(reading.mask_logits > 0, grid, classes, strict=True):
            masks, labels = masks[:, :height, :width], labels[:height, :width]
            outlined.append(best_overlaps(masks, labels, self.num_classes))
            active = own != NO_CLASS
            overlaps += overlap_sums(mask_overlaps(masks[active], masks[active]), own[active]).cpu()
        self._parts.append(
            ObservedQueries(
                classes.cpu(),
                F.normalize(queries, dim=-1).cpu(),
                means.cpu(),
                measured.cpu(),
                torch.stack(present).cpu(),
                overlaps,
                torch.stack(outlined).cpu(),
            )
        )

    def observed(self) -> ObservedQueries:
        """What was seen so far. Raises: RecipeError if images have different numbers of queries"""
        assert self._parts, "nothing was observed"
        numbers = {part.num_queries for part in self._parts}
        if len(numbers) > 1:
            raise RecipeError(
                f"This model asks {min(numbers)} to {max(numbers)} queries, depending on the image; diagnostics "
                "compare queries across images and need the same number everywhere."
            )
        names = ("classes", "embeddings", "class_means", "measured", "present", "outlined")
        joined = {name: torch.cat([getattr(part, name) for part in self._parts]) for name in names}
        return ObservedQueries(**joined, overlaps=torch.stack([part.overlaps for part in self._parts]).sum(0))


def inside(observation: Observation) -> tuple[int, int]:
    """Rows and columns of the masks' grid whose centres lie in the image, not in the padding beside it."""
    grid, canvas = observation.output.final.mask_logits.shape[-2:], observation.label_maps.shape[-2:]
    height, width = (
        ceil(n * part / whole - 0.5) for n, part, whole in zip(grid, observation.size, canvas, strict=True)
    )
    return max(1, height), max(1, width)
