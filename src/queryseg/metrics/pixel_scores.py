"""Scores of label maps over all pixels.

Shape legend: K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from queryseg.metrics.confusion import class_counts, margins, margins_iou, weighted_iou
from queryseg.metrics.metric import Metric, PredictedMaps
from queryseg.types import Sample


class PixelScores(Metric):
    """Mean IoU, pixel accuracy, mean accuracy and frequency-weighted IoU, pooled; definitions in `confusion.py`.

    Its sums per image are the margins (3, K) int32, its total the confusion matrix (K, K) int64. Pixels that were
    predicted to be nothing (255) count in the margins, as labelled, and are left out of the matrix.
    """

    name = "pixels"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def measure(self, prediction: PredictedMaps, sample: Sample) -> Tensor:
        label_map = sample.label_map.to(prediction.label_map.device)
        counts = class_counts(prediction.label_map, label_map, self.num_classes)
        self.add_total(counts[:, :-1])
        return torch.stack(margins(counts)).int()

    def scores(self, pooled: Tensor) -> dict[str, Tensor]:
        true, labelled, predicted = pooled.unbind(-2)
        return {
            "mean_iou": margins_iou(true, labelled, predicted).nanmean(-1),
            "pixel_accuracy": true.sum(-1) / labelled.sum(-1),
            "mean_accuracy": (true / labelled).nanmean(-1),
            "frequency_weighted_iou": weighted_iou(true, labelled, predicted),
        }

    def per_class(self, pooled: Tensor) -> dict[str, Tensor]:
        true, labelled, predicted = pooled.unbind(-2)
        return {
            "iou": margins_iou(true, labelled, predicted),
            "recall": true / labelled,
            "precision": true / predicted,
        }
