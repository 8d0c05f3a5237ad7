"""A score made of the scores of several data sets, with its interval.

Shape legend: R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any

import torch
from torch import Tensor

from queryseg.evaluation.evaluation import percent
from queryseg.metrics.bootstrap import basic_interval
from queryseg.metrics.measurement import Interval, Measurement, number

Combination = Callable[[Tensor], Tensor]
"""(M, …) scores of M data sets → (…)"""


@dataclass(frozen=True)
class Estimate:
    """value: nan where it is not defined; interval: 95 % bootstrap over images, nan of a single image."""

    value: float
    interval: Interval = (nan, nan)

    @property
    def interval_text(self) -> str:
        """In %, "" if there is none."""
        return "" if isnan(self.interval[0]) else " – ".join(map(percent, self.interval))

    def to_json(self) -> dict[str, Any]:
        return {"value": number(self.value), "interval": [number(bound) for bound in self.interval]}


UNDEFINED = Estimate(nan)


class MeanIoU:
    """mIoU of several data sets whose images are resampled, and what is made of it.

    same_images  the data sets show the same images in the same order (clean and corrupted ones): a resample draws the
                 same images of all of them, so that what they share cancels in differences and ratios. Otherwise each
                 is resampled by itself.
    """

    def __init__(self, measurements: Sequence[Measurement], same_images: bool) -> None:
        self.scores = torch.tensor([m.scores()["mean_iou"] for m in measurements], dtype=torch.float64)
        self.resampled: Tensor | None = None
        if all(m.num_images > 1 for m in measurements):
            drawn = (m.resampled(seed=0 if same_images else i) for i, m in enumerate(measurements))
            self.resampled = torch.stack([scores["mean_iou"] for scores in drawn])

    def estimate(self, combination: Combination, highest: float = 1.0) -> Estimate:
        """Of a combination, which is never below 0 and never above `highest`. Source of intervals: `basic_interval`."""
        value = float(combination(self.scores))
        if self.resampled is None:
            return Estimate(value)
        found = combination(self.resampled)
        return Estimate(value, basic_interval(value, found.where(found.isfinite(), nan), limits=(0.0, highest)))

    def mean(self) -> Estimate:
        """Each data set counts the same, whatever its size."""
        return self.estimate(lambda scores: scores.mean(0))

    def ratio(self) -> Estimate:
        """The mean of all but the last over the last."""
        return self.estimate(lambda scores: scores[:-1].mean(0) / scores[-1], inf)
