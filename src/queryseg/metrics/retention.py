"""How much of a score is left on other data.

Shape legend: R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import torch

from queryseg.metrics.bootstrap import basic_interval
from queryseg.metrics.measurement import Interval, Measurement


@dataclass(frozen=True)
class Retention:
    """value: target / source, 1 where nothing is lost; nan where one of them is not defined or the source is 0.

    interval  95 % bootstrap interval over the images of both
    """

    value: float
    interval: Interval


def retention(target: Measurement, source: Measurement, score: str, num_resamples: int = 1000) -> Retention:
    """A score on a target data set over the same score on the source.

    Both data sets are resampled, independently of each other. Only sensible for scores of which more is better.

    Source: basic bootstrap interval of the ratio, see `basic_interval`.
    """
    assert type(target.metric) is type(source.metric), f"{target.name} against {source.name}"
    assert target.metric.higher_is_better, f"the share of {score} that is left says nothing"
    above, below = target.scores()[score], source.scores()[score]
    value = above / below if below > 0 else nan
    if min(target.num_images, source.num_images) < 2:
        return Retention(value, (nan, nan))
    resampled = target.resampled(num_resamples, seed=1)[score] / source.resampled(num_resamples, seed=0)[score]
    resampled = torch.where(resampled.isfinite(), resampled, nan)  # a resample without any of the source's score
    return Retention(value, basic_interval(value, resampled, limits=(0.0, inf)))
