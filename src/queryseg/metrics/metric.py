"""What metrics have in common: sums over images that scores are made of, collected image by image.

Shape legend: N images, K classes, H×W pixels of the label, h×w the grid of scores, S the shape of a metric's sums.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch.distributed as dist
from torch import Tensor

from queryseg.errors import InputError
from queryseg.metrics.measurement import Measurement
from queryseg.types import Sample


@dataclass(frozen=True)
class PanopticMap:
    """One segment per pixel.

    label_map     (H, W) uint8: class index, or 255 = no segment
    instance_map  (H, W) int32: number of the object on pixels of things, 0 everywhere else. See `PanopticQuality` for
                  0 on a thing.
    """

    label_map: Tensor
    instance_map: Tensor


@dataclass(frozen=True)
class PredictedMaps:
    """What a model says of one image, as far as metrics ask.

    label_map      (H, W) uint8: the likeliest class of every pixel
    panoptic       its segments, for panoptic quality
    probabilities  (K, h, w) in 0…1 that sum to at most 1 over classes (`Readout.probabilities`), at any size; they
                   cover the whole image. For calibration
    """

    label_map: Tensor
    panoptic: PanopticMap | None = None
    probabilities: Tensor | None = None


class Metric(ABC):
    """Collects one row of sums per image; scores are functions of the rows' sum over images, never means of scores of
    images. The same rows, resampled, give intervals (`Measurement.interval`).

    A row takes a few KB, whatever the image's size; nothing else is kept. Processes that share a data set merge theirs.

    Why not torchmetrics.Metric: its states are sums over all images, which leave nothing to resample, or lists that
    grow by whole images. Rows of sums need one `merge`, and gathering them is one call (`gathered`).
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    """Fields of `PredictedMaps` that are looked at besides `label_map`."""
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rows = _Rows()
        self._total: Tensor | None = None

    # what a metric defines

    @abstractmethod
    def measure(self, prediction: PredictedMaps, sample: Sample) -> Tensor:
        """The row of one image, (*S). Raises: InputError"""

    @abstractmethod
    def scores(self, pooled: Tensor) -> dict[str, Tensor]:
        """Rows summed over images (…, *S) → score's name → (…) float64, nan where it is not defined."""

    def per_class(self, pooled: Tensor) -> dict[str, Tensor]:
        """The same for every class: (…, *S) → (…, K)."""
        return {}

    def limits(self, score: str) -> tuple[float, float]:
        """The lowest and highest value that a score can have."""
        return 0.0, 1.0

    def details(self, pooled: Tensor) -> dict[str, Any]:
        """What else reports show, as plain values."""
        return {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What must stand beside the scores: widths, rules. Plain values; metrics with equal settings can be merged."""
        return {}

    # given for every metric

    def update(self, prediction: PredictedMaps, sample: Sample) -> None:
        """Add one image. Raises: InputError if a label is no class, or sizes differ"""
        self._rows.extend(self.measure(prediction, sample).cpu()[None])

    def merge(self, other: Metric) -> None:
        """Add the images of another metric of the same kind and settings, behind one's own."""
        assert type(other) is type(self), f"{type(other).__name__} is no {type(self).__name__}"
        assert other.settings == self.settings, f"{other.settings} differ from {self.settings}"
        if other._rows.length:
            self._rows.extend(other._rows.filled())
        self.add_total(other._total)

    def add_total(self, total: Tensor | None) -> None:
        """For sums that are too large to keep per image; they have no interval."""
        if total is not None:
            self._total = total.cpu() if self._total is None else self._total + total.cpu()

    def compute(self) -> Measurement:
        """The scores of all images so far. Raises: InputError if there is none"""
        if not self._rows.length:
            raise InputError(f"The metric '{self.name}' has seen no image; a score needs at least one.")
        return Measurement(self.blank(), self._rows.filled().clone(), self._total)

    def blank(self: M) -> M:
        """One of the same settings that has seen nothing."""
        blank = copy(self)
        blank._rows, blank._total = _Rows(), None
        return blank


M = TypeVar("M", bound=Metric)


class _Rows:
    """A table that grows at its end, by doubling. Not a list of tensors: thousands of small blocks that stay, between
    large ones that come and go with every image, leave the allocator ever less room for these.
    """

    def __init__(self) -> None:
        self.length = 0
        self._table: Tensor | None = None

    def extend(self, rows: Tensor) -> None:
        """rows (n, *S)"""
        needed = self.length + len(rows)
        if self._table is None or needed > len(self._table):
            larger = rows.new_zeros(max(64, 2 * needed), *rows.shape[1:])
            if self._table is not None:
                larger[: self.length] = self.filled()
            self._table = larger
        self._table[self.length : needed] = rows
        self.length = needed

    def filled(self) -> Tensor:
        """(N, *S)"""
        assert self._table is not None, "there are rows"
        return self._table[: self.length]


def gathered(metric: M) -> M:
    """What all processes of torch.distributed have measured, the same in each of them, in order of rank; without a
    process group the metric itself.

    Give process r of n the images r, r + n, …: samplers that repeat images to make shares equal would count them twice.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return metric
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, metric)
    whole = metric.blank()
    for part in parts:
        whole.merge(part)
    return whole
