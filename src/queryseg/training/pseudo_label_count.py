"""What the model of the task before finds in the images of the next one, before that begins.

Shape legend: K classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from queryseg.data.batch import Batch
from queryseg.objectives.pseudo_distribution import PseudoDistribution
from queryseg.objectives.pseudo_labels import PseudoLabels
from queryseg.segmenter import Segmenter
from queryseg.training.step import padded_targets


@torch.no_grad()
def count_pseudo_labels(
    previous: Segmenter, pseudo_labels: PseudoLabels, batches: Iterable[Batch]
) -> PseudoDistribution:
    """How many pseudo-labels of each class the batches get, about one epoch of the next task's training images.

    previous       the model of the task before; in eval mode afterwards
    pseudo_labels  with the settings of the next task
    batches        on the model's device

    Source: SimCIS (CVPR 2025) §4.3, Eq. 9; spec §3. The authors' code runs a training of learning rate 0 for it.
    """
    previous.eval()
    counts = torch.zeros(previous.dims.num_classes, dtype=torch.int64, device=previous.mean.device)
    for batch in batches:
        images = previous.normalise(batch.images)
        targets = padded_targets(batch, images.shape[-2], images.shape[-1])
        for target in pseudo_labels.added(previous(images).final, targets):
            counts += target.labels[: target.num_pseudo].bincount(minlength=len(counts))
    return PseudoDistribution(counts.cpu())
