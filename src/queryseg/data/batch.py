"""Training samples of equal size, put together.

Shape legend: B images, H×W pixels, M classes present in one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from queryseg.data.label_map import pixels_per_label
from queryseg.data.sampling import DrawnSample
from queryseg.errors import InputError
from queryseg.types import IGNORE, Sample, Target


@dataclass
class Batch:
    """Not frozen, because Lightning moves batches to a device by writing into dataclasses.

    images      (B, 3, H, W) uint8, RGB
    label_maps  (B, H, W) uint8, 255 = ignored
    labels      B × (M,) int64, the classes present in each image. Found in the loader's worker, because asking a GPU
                for them costs one synchronisation per image.
    names       B
    positions   B places in the run, or empty for samples that no `TrainingSet` drew
    """

    images: Tensor
    label_maps: Tensor
    labels: list[Tensor]
    names: list[str]
    positions: list[int]

    def targets(self) -> list[Target]:
        """One target per image, on the batch's device, with one segment per class present."""
        return [Target.semantic(m, labels) for m, labels in zip(self.label_maps, self.labels, strict=True)]

    def pin_memory(self) -> Batch:
        """DataLoader looks for this method; it cannot see into dataclasses."""
        return replace(
            self,
            images=self.images.pin_memory(),
            label_maps=self.label_maps.pin_memory(),
            labels=[labels.pin_memory() for labels in self.labels],
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size → a batch. InputError naming two samples whose sizes differ."""
    first = samples[0]
    for sample in samples:
        if sample.image.shape != first.image.shape or sample.label_map.shape != sample.image.shape[1:]:
            sizes = [
                f"'{s.name}' {tuple(s.image.shape[1:])} with labels {tuple(s.label_map.shape)}" for s in (first, sample)
            ]
            raise InputError(
                f"Images of one batch must have one size, but {' and '.join(sizes)} do not; crop them first."
            )
    return Batch(
        images=torch.stack([s.image for s in samples]),
        label_maps=torch.stack([s.label_map for s in samples]),
        labels=[pixels_per_label(s.label_map)[:IGNORE].nonzero().flatten() for s in samples],
        names=[s.name for s in samples],
        positions=[s.position for s in samples if isinstance(s, DrawnSample)],
    )
