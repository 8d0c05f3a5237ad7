"""The scores of one model on one data set.

Shape legend: N images, K classes, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan, nan
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.data.condition import CONDITIONS, condition_of
from queryseg.data.protocol import Protocol
from queryseg.metrics.confusion import margins_iou
from queryseg.metrics.measurement import Measurement, number
from queryseg.metrics.pixel_scores import PixelScores


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
    margins    (N, 3, K) int64 per image: rightly predicted, labelled, predicted, for intervals
    seconds    for everything, reading files included
    examples   a few images, evenly spread over the data set
    split      of the data set; None: it has none
    measures   name → what else was measured (`measures.MEASURES`), see `measurements`
    layout     of the data set, as its data file says; None: it came without one
    image_names  (N), in the order of the margins; empty: not known
    """

    name: str
    classes: ClassTable
    protocol: Protocol
    confusion: Tensor
    margins: Tensor
    seconds: float
    examples: tuple[Example, ...] = ()
    split: str | None = None
    measures: Mapping[str, Measurement] = field(default_factory=dict)
    layout: str | None = None
    image_names: tuple[str, ...] = ()

    @cached_property
    def measurements(self) -> Mapping[str, Measurement]:
        """Everything that was measured, by name; "pixels" always is. Reports go through this: each has `scores()`,
        `interval(score)` and `per_class()`."""
        pixels = Measurement(PixelScores(len(self.classes)), self.margins, self.confusion)
        return {pixels.name: pixels, **self.measures}

    @cached_property
    def conditions(self) -> Mapping[str, Measurement]:
        """Condition → scores of its images alone, in the layout's order; {} where images have none (see
        `condition_of`)."""
        found = [condition_of(self.layout, name) for name in self.image_names]
        images = {
            known: [i for i, one in enumerate(found) if one == known] for known in CONDITIONS.get(self.layout or "", ())
        }
        scores = PixelScores(len(self.classes))
        return {name: Measurement(scores, self.margins[chosen]) for name, chosen in images.items() if chosen}

    @cached_property
    def image_iou(self) -> Tensor:
        """(N,) float64: mean IoU of every image by itself, over the classes that are labelled or predicted in it; nan
        for an image without a labelled pixel. Says which images fail; never averaged into a score."""
        scores = margins_iou(*self.margins.unbind(1)).nanmean(-1)
        return scores.where(self.margins[:, 1].sum(-1) > 0, nan)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes.names

    @property
    def num_images(self) -> int:
        return self.margins.shape[0]

    @property
    def pooled(self) -> Tensor:
        """(3, K): the margins of all images. Pixels predicted to be nothing are in them, and not in the matrix."""
        return self.margins.sum(0)

    @property
    def iou(self) -> Tensor:
        """(K,) float64, nan for classes that are neither labelled nor predicted."""
        return margins_iou(*self.pooled)

    @property
    def mean_iou(self) -> float:
        return float(self.iou.nanmean())

    @property
    def mean_iou_interval(self) -> tuple[float, float]:
        """95 % bootstrap interval over images."""
        return self.measurements["pixels"].interval("mean_iou")

    @property
    def pixel_accuracy(self) -> float:
        true, labelled, _ = self.pooled
        return float(true.sum().double() / labelled.sum())

    def __str__(self) -> str:
        low, high = map(percent, self.mean_iou_interval)
        return f"{self.name}: mIoU {percent(self.mean_iou)} [{low}, {high}]"

    def to_json(self) -> dict[str, Any]:
        """Plain values; scores in 0…1, None where they are not defined."""
        true, labelled, predicted = self.pooled
        per_class = zip(
            self.class_names,
            self.iou.tolist(),
            (true.double() / labelled).tolist(),
            (true.double() / predicted).tolist(),
            labelled.tolist(),
            strict=True,
        )
        conditions = {name: found.to_json(self.class_names) for name, found in self.conditions.items()}
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
            **({"conditions": conditions} if conditions else {}),
            "measures": {name: found.to_json(self.class_names) for name, found in self.measurements.items()},
            "confusion": self.confusion.tolist(),
            "seconds": round(self.seconds, 3),
        }


def percent(score: float) -> str:
    """0.6123 → "61.2", nan → "–"."""
    return "–" if isnan(score) else f"{100 * score:.1f}"


def score_text(score: float, interval: tuple[float, float], limits: tuple[float, float] = (0.0, 1.0)) -> str:
    """0.6123 → "61.2 [60.1, 62.3]" in % where scores lie in 0…1; others as they are, "1.234 [1.201, 1.266]"."""

    def text(value: float) -> str:
        return percent(value) if limits == (0.0, 1.0) else "–" if isnan(value) else f"{value:.3f}"

    return f"{text(score)} [{text(interval[0])}, {text(interval[1])}]"
