"""How many segments of each class any query outlines, whatever it calls them.

Shape legend: K classes, B views, M segments, H×W the canvas, h×w the masks' grid.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.data.segments import LabelledSegments
from queryseg.errors import InputError
from queryseg.evaluation.diagnostics.query_observer import inside
from queryseg.evaluation.observation import Observation
from queryseg.metrics.objectness import FOUND, best_overlaps


class ObjectnessObserver:
    """An observer for `evaluate`: class-agnostic recall. A segment counts as found if the mask of any query has an IoU
    of at least 0.5 with it, on the masks' grid. Segments are a class's whole region in an image, and single objects of
    `things`; crowds, and segments too small for the grid, are left out. Changes nothing and draws no random number.

    things  class indices; (): regions only, as semantic training sees them
    """

    def __init__(self, num_classes: int, things: Collection[int] = ()) -> None:
        self.things = frozenset(things)
        self.found = torch.zeros(num_classes, dtype=torch.int64)
        self.segments = torch.zeros(num_classes, dtype=torch.int64)

    @torch.no_grad()
    def __call__(self, observation: Observation) -> None:
        masks = observation.output.final.mask_logits > 0
        height, width = inside(observation)
        maps = [observation.label_maps]
        if self.things:
            if observation.instance_maps is None:
                raise InputError(
                    "This model tells objects apart, but the data set does not; give data with objects, such as a "
                    "panoptic data file."
                )
            maps.append(observation.instance_maps)
        grid = F.interpolate(torch.stack([m.double() for m in maps], 1).cpu(), masks.shape[-2:], mode="nearest")
        for of_view, view in zip(masks, grid, strict=True):
            labels = view[0, :height, :width].byte()
            instances = view[-1, :height, :width].int() if self.things else torch.zeros_like(labels, dtype=torch.int32)
            segments = LabelledSegments.of(labels, instances, self.things)
            segments = segments.where(~segments.crowds(self.things))
            self._count(of_view[:, :height, :width], segments)

    def _count(self, masks: Tensor, segments: LabelledSegments) -> None:
        best = best_overlaps(masks, segments.index_map.to(masks.device), len(segments.labels)).cpu()
        self.segments += torch.bincount(segments.labels, minlength=len(self.segments))
        self.found += torch.bincount(segments.labels[best >= FOUND], minlength=len(self.found))

    def recall(self) -> Tensor:
        """(K,) float64 share of each class's segments that were found; nan for classes without any."""
        return self.found.double() / self.segments.double()
