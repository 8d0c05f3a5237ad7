"""How much a score depends on which images were in the test set.

Shape legend: N images, K classes, S the shape of one image's sums, R resamples.
"""

from __future__ import annotations

from math import inf, isnan, nan

import torch
from torch import Tensor

from queryseg.metrics.confusion import margins_iou

_ENTRIES_AT_ONCE = 2**20
"""Times that images are drawn in resamples, counted at once: 8 MB, however many images there are."""


def resampled_sums(statistics: Tensor, num_resamples: int = 1000, seed: int = 0) -> Tensor:
    """Draw as many images as there are, with replacement, and add up what is known of them; again and again.

    statistics  (N, *S) per image, whatever scores are made of after summing
    returns     (R, *S) float64; the same for the same images in the same order
    """
    num_images = statistics.shape[0]
    generator = torch.Generator().manual_seed(seed)
    flat = statistics.flatten(1).double()
    sums = []
    while num_resamples > 0:
        together = min(num_resamples, max(1, _ENTRIES_AT_ONCE // max(1, num_images)))
        drawn = torch.randint(num_images, (together, num_images), generator=generator)
        bins = drawn + num_images * torch.arange(together)[:, None]
        times = torch.bincount(bins.flatten(), minlength=together * num_images).view(together, num_images)
        sums.append(times.double() @ flat)
        num_resamples -= together
    return torch.cat(sums).view(-1, *statistics.shape[1:])


def basic_interval(
    score: float, resampled: Tensor, level: float = 0.95, limits: tuple[float, float] = (-inf, inf)
) -> tuple[float, float]:
    """Basic (reflected) bootstrap interval.

    score      of all images
    resampled  (R,) the same score of resampled images; nan is left out
    limits     that no score can pass
    returns    (low, high) around the score; (nan, nan) if it is not defined

    It says nothing about other training seeds, and is too narrow where images depend on each other (video frames).

    Source: Davison and Hinkley, Bootstrap Methods and their Application, §5.2: score − (resampled − score). Few images
    show too few of the rare classes, and resamples fewer still; percentiles of them would lie below the truth twice as
    far as the score does, the reflection takes the error back. Deviation: widened to include the score itself.
    """
    if isnan(score):
        return nan, nan
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    lowest, highest = resampled.double().nanquantile(tails).tolist()
    if isnan(lowest):
        return nan, nan
    low, high = 2 * score - highest, 2 * score - lowest
    return max(limits[0], min(low, score)), min(limits[1], max(high, score))


def mean_iou_interval(margins: Tensor, level: float = 0.95, num_resamples: int = 1000) -> tuple[float, float]:
    """Interval of pooled mean IoU over images, see `basic_interval`.

    margins  (N, 3, K) pixels per image and class: rightly predicted, labelled, predicted (`confusion.margins`)
    returns  (low, high) in 0…1 around the score; (nan, nan) for fewer than two images; the same for the same images in
             the same order
    """

    def mean_iou(pooled: Tensor) -> Tensor:
        return margins_iou(*pooled.unbind(-2)).nanmean(-1)

    if len(margins) < 2:
        return nan, nan
    score = float(mean_iou(margins.sum(0)))
    return basic_interval(score, mean_iou(resampled_sums(margins, num_resamples)), level, (0.0, 1.0))
