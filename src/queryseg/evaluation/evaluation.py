"""The scores of one model on one data set.

Shape legend: N images, K classes, H×W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.data.protocol import Protocol
from queryseg.metrics.bootstrap import mean_iou_interval
from queryseg.metrics.confusion import iou, mean_iou, pixel_accuracy, precision, recall


@dataclass(frozen=True)
class Example:
    """One image with its label and prediction, for reports. All uint8.

    image (…, …, 3) at its own size, label_map (H, W), prediction (H, W) at the size at which they were compared
    """

    name: str
    image: npt.NDArray[np.uint8]
    label_map: npt.NDArray[np.uint8]
    prediction: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluation:
    """Pooled scores over all images of a data set; every score is in 0…1 and nan where it is not defined.

    name       of the data set
    classes    of the data set, equal in names to the model's
    protocol   how images were shown
    confusion  (K, K) int64, rows are labels, columns predictions
    margins    (N, 3, K) int64 per image, for the interval (see `mean_iou_interval`)
    seconds    for everything, reading files included
    examples   a few images, evenly spread over the data set
    split      of the data set; None: it has none
    """

    name: str
    classes: ClassTable
    protocol: Protocol
    confusion: Tensor
    margins: Tensor
    seconds: float
    examples: tuple[Example, ...] = ()
    split: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes.names

    @property
    def num_images(self) -> int:
        return self.margins.shape[0]

    @property
    def iou(self) -> Tensor:
        """(K,) float64, nan for classes that are neither labelled nor predicted."""
        return iou(self.confusion)

    @property
    def mean_iou(self) -> float:
        return float(mean_iou(self.confusion))

    @cached_property
    def mean_iou_interval(self) -> tuple[float, float]:
        """95 % bootstrap interval over images."""
        return mean_iou_interval(self.margins)

    @property
    def pixel_accuracy(self) -> float:
        return float(pixel_accuracy(self.confusion))

    def __str__(self) -> str:
        low, high = map(percent, self.mean_iou_interval)
        return f"{self.name}: mIoU {percent(self.mean_iou)} [{low}, {high}]"

    def to_json(self) -> dict[str, Any]:
        """Plain values; scores in 0…1, None where they are not defined."""
        per_class = zip(
            self.class_names,
            self.iou.tolist(),
            recall(self.confusion).tolist(),
            precision(self.confusion).tolist(),
            self.confusion.sum(1).tolist(),
            strict=True,
        )
        return {
            "name": self.name,
            "split": self.split,
            "num_images": self.num_images,
            "protocol": str(self.protocol),
            "mean_iou": number(self.mean_iou),
            "mean_iou_interval": [number(bound) for bound in self.mean_iou_interval],
            "pixel_accuracy": number(self.pixel_accuracy),
            "classes": {
                name: {"iou": number(i), "recall": number(r), "precision": number(p), "pixels": pixels}
                for name, i, r, p, pixels in per_class
            },
            "confusion": self.confusion.tolist(),
            "seconds": round(self.seconds, 3),
        }


def percent(score: float) -> str:
    """0.6123 → "61.2", nan → "–"."""
    return "–" if isnan(score) else f"{100 * score:.1f}"


def number(value: float) -> float | None:
    """nan, which is no JSON, becomes None."""
    return None if isnan(value) else value
