"""Training samples of equal size, put together.

Shape legend: B images, H×W pixels, M segments of one image (semantic: classes present).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.data.label_map import pixels_per_label
from queryseg.data.sampling import DrawnSample
from queryseg.data.segments import LabelledSegments
from queryseg.errors import InputError
from queryseg.types import IGNORE, Sample, Target, Task


@dataclass
class Batch:
    """Not frozen, because Lightning moves batches to a device by writing into dataclasses.

    images      (B, 3, H, W) uint8, RGB
    label_maps  (B, H, W) uint8, 255 = ignored; crowds are ignored, too
    labels      B × (M,) int64, the class of every segment. Found in the loader's worker, because asking a GPU for them
                costs one synchronisation per image.
    names       B
    positions   B places in the run, or empty for samples that no `TrainingSet` drew
    index_maps  (B, H, W) int16, which of `labels` each pixel's segment has, −1 = none; None: segments are classes
    """

    images: Tensor
    label_maps: Tensor
    labels: list[Tensor]
    names: list[str]
    positions: list[int]
    index_maps: Tensor | None = None

    def targets(self) -> list[Target]:
        """One target per image, on the batch's device."""
        if self.index_maps is None:
            return [Target.semantic(m, labels) for m, labels in zip(self.label_maps, self.labels, strict=True)]
        return [Target.panoptic(*image) for image in zip(self.label_maps, self.index_maps, self.labels, strict=True)]

    def padded(self, height: int, width: int) -> Batch:
        """The same images' targets on a larger canvas, whose added part at the bottom and right is ignored."""
        added = (0, width - self.label_maps.shape[2], 0, height - self.label_maps.shape[1])
        index_maps = None if self.index_maps is None else F.pad(self.index_maps, added, value=-1)
        return replace(self, label_maps=F.pad(self.label_maps, added, value=IGNORE), index_maps=index_maps)

    def pin_memory(self) -> Batch:
        """DataLoader looks for this method; it cannot see into dataclasses."""
        return replace(
            self,
            images=self.images.pin_memory(),
            label_maps=self.label_maps.pin_memory(),
            labels=[labels.pin_memory() for labels in self.labels],
            index_maps=None if self.index_maps is None else self.index_maps.pin_memory(),
        )


def collate(samples: Sequence[Sample], task: Task = "semantic", things: frozenset[int] = frozenset()) -> Batch:
    """Samples of one size → a batch.

    task    "semantic": a segment per class; "panoptic": a segment per class of stuff and per object of things, crowds
            ignored; "instance": the objects alone
    things  class indices

    Raises: InputError naming two samples whose sizes differ, or one that tells no objects apart
    """
    first = samples[0]
    for sample in samples:
        if sample.image.shape != first.image.shape or sample.label_map.shape != sample.image.shape[1:]:
            sizes = [
                f"'{s.name}' {tuple(s.image.shape[1:])} with labels {tuple(s.label_map.shape)}" for s in (first, sample)
            ]
            raise InputError(
                f"Images of one batch must have one size, but {' and '.join(sizes)} do not; crop them first."
            )
    batch = Batch(
        images=torch.stack([s.image for s in samples]),
        label_maps=torch.stack([s.label_map for s in samples]),
        labels=[],
        names=[s.name for s in samples],
        positions=[s.position for s in samples if isinstance(s, DrawnSample)],
    )
    if task == "semantic":
        return replace(batch, labels=[pixels_per_label(s.label_map)[:IGNORE].nonzero().flatten() for s in samples])
    found = [_segments(sample, things) for sample in samples]
    ignored = torch.stack([segments.index_map < 0 for segments in found])  # crowds, and what was ignored already
    if task == "instance":
        found = [segments.where(segments.instances > 0) for segments in found]
    return replace(
        batch,
        label_maps=batch.label_maps.masked_fill(ignored, IGNORE),
        labels=[segments.labels for segments in found],
        index_maps=torch.stack([segments.index_map for segments in found]),
    )


def _segments(sample: Sample, things: frozenset[int]) -> LabelledSegments:
    """Classes of stuff and objects, no crowds. Raises: InputError if the data set tells no objects apart"""
    if sample.instance_map is None:
        raise InputError(
            f"The labels of '{sample.name}' tell no objects apart, which panoptic and instance targets need; use a "
            "layout with instances, or the task 'semantic'."
        )
    segments = LabelledSegments.of(sample.label_map, sample.instance_map, things)
    return segments.where(~segments.crowds(things))
