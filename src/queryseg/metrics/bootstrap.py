"""How much a score depends on which images were in the test set.

Shape legend: N images, K classes, R resamples.
"""

from __future__ import annotations

from math import isnan, nan

import torch
from torch import Tensor

from queryseg.metrics.confusion import margins_iou

_SEED = 0


def mean_iou_interval(margins: Tensor, level: float = 0.95, num_resamples: int = 1000) -> tuple[float, float]:
    """Basic (reflected) bootstrap interval of pooled mean IoU over images.

    margins  (N, 3, K) pixels per image and class: rightly predicted, labelled, predicted (`confusion.margins`)
    returns  (low, high) in 0…1 around the score; (nan, nan) for fewer than two images; the same for the same images in
             the same order

    Images are drawn with replacement and pooled. It says nothing about other training seeds, and is too narrow where
    images are not independent (frames of one video).

    Source: Davison and Hinkley, Bootstrap Methods and their Application, §5.2: score − (resampled − score). Few images
    show too few of the rare classes, and resamples fewer still; percentiles of them would lie below the truth twice as
    far as the score does, the reflection takes the error back. Deviation: widened to include the score itself.
    """
    num_images, _, num_classes = margins.shape
    score = float(margins_iou(*margins.sum(0).unbind(0)).nanmean())
    if num_images < 2 or isnan(score):
        return nan, nan
    generator = torch.Generator().manual_seed(_SEED)
    drawn = torch.randint(num_images, (num_resamples, num_images), generator=generator)
    times = torch.zeros(num_resamples, num_images, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    pooled = (times @ margins.flatten(1).double()).view(num_resamples, 3, num_classes)
    scores = margins_iou(*pooled.unbind(1)).nanmean(-1)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    lowest, highest = scores.nanquantile(tails).tolist()
    low, high = 2 * score - highest, 2 * score - lowest
    return max(0.0, min(low, score)), min(1.0, max(high, score))
