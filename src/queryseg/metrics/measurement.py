"""What a metric found on a data set.

Shape legend: N images, K classes, S the shape of a metric's sums, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from torch import Tensor

from queryseg.metrics.bootstrap import basic_interval, resampled_sums

if TYPE_CHECKING:
    from queryseg.metrics.metric import Metric

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measurement:
    """Named scores with intervals, all from the same images.

    metric      what was measured, without its images
    statistics  (N, *S) sums per image
    total       further sums over all images, which have no interval
    """

    metric: Metric
    statistics: Tensor
    total: Tensor | None = None

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def num_images(self) -> int:
        return self.statistics.shape[0]

    @cached_property
    def pooled(self) -> Tensor:
        """(*S) float64, the sum over images"""
        return self.statistics.double().sum(0)

    def scores(self) -> dict[str, float]:
        """Score's name → value, nan where it is not defined."""
        return {name: float(value) for name, value in self.metric.scores(self.pooled).items()}

    def per_class(self) -> dict[str, Tensor]:
        """Score's name → (K,) float64, nan for classes without it."""
        return self.metric.per_class(self.pooled)

    def resampled(self, num_resamples: int = 1000, seed: int = 0) -> dict[str, Tensor]:
        """Score's name → (R,) float64: what other images of the same kind might have given."""
        return self.metric.scores(resampled_sums(self.statistics, num_resamples, seed))

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Score's name → its 95 % bootstrap interval over images, see `basic_interval`; nan for one image."""
        if self.num_images < 2:
            return dict.fromkeys(self.scores(), (nan, nan))
        resampled, scores = self.resampled(), self.scores()
        limits = self.metric.limits
        return {name: basic_interval(scores[name], resampled[name], limits=limits(name)) for name in scores}

    def interval(self, score: str) -> Interval:
        """See `intervals`."""
        return self.intervals[score]

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Plain values, None where they are not defined."""
        per_class = {name: values.tolist() for name, values in self.per_class().items()}
        return {
            "scores": {
                name: {"value": number(value), "interval": [number(bound) for bound in self.interval(name)]}
                for name, value in self.scores().items()
            },
            "classes": {
                class_name: {name: number(values[k]) for name, values in per_class.items()}
                for k, class_name in enumerate(class_names if per_class else ())
            },
            "details": self.metric.details(self.pooled),
            "settings": dict(self.metric.settings),
            "num_images": self.num_images,
        }


def number(value: float) -> float | None:
    """nan and infinity, which are no JSON, become None."""
    return value if isfinite(value) else None
