"""How far a model's probabilities can be taken at their word.

Shape legend: N images, K classes, H×W pixels of the label, h×w the grid of scores, n labelled pixels among these,
b bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import InputError
from queryseg.metrics.confusion import check_labels
from queryseg.metrics.measurement import Measurement, number
from queryseg.metrics.metric import Metric, PredictedMaps
from queryseg.types import IGNORE, Sample

SMALLEST_PROBABILITY = 1e-7
"""Where the negative log likelihood stops growing: a label that the model rules out costs 16.1."""


class Calibration(Metric):
    """Expected calibration error, negative log likelihood (nats) and Brier score, pooled over labelled pixels.

    A pixel's prediction is its likeliest class, its confidence that class's probability.

    expected_calibration_error  Σ_b n_b/n · |accuracy_b − confidence_b| over equal bins of confidence, ( i/b, (i+1)/b ]
    negative_log_likelihood     mean of −ln p(label), p at least 1e-7
    brier_score                 mean of Σ_c (p_c − [c = label])², in 0…2; what the classes leave of 1 counts as one more
                                class, which is never right
    classwise_calibration_error mean over classes of the same error of p_c, of all pixels in bins of p_c, on request

    Labels are looked up at the pixels that lie nearest to the centres of the scores' grid (`nearest_indices`).

    num_bins   b
    classwise  measure the error of every class's probability, too; takes longer than all the rest

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3; Brier 1950; classwise: Kull et al. 2019,
    Beyond Temperature Scaling, eq. 2. Deviation: probabilities may sum to less than 1 (`Readout.probabilities`).
    """

    name = "calibration"
    needs = frozenset({"probabilities"})
    higher_is_better = False

    def __init__(self, num_classes: int, num_bins: int = 15, classwise: bool = False) -> None:
        super().__init__()
        if num_bins < 1:
            raise InputError(f"num_bins is {num_bins}; give at least 1 (15 are usual).")
        self.num_classes, self.num_bins, self.classwise = num_classes, num_bins, classwise

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"num_bins": self.num_bins, "classwise": self.classwise}

    def limits(self, score: str) -> tuple[float, float]:
        return 0.0, {"negative_log_likelihood": inf, "brier_score": 2.0}.get(score, 1.0)

    def measure(self, prediction: PredictedMaps, sample: Sample) -> Tensor:
        """(3b + 2,) float32: pixels, confidence and right answers per bin, negative log likelihood and Brier score; and
        K·3b more if classwise"""
        if prediction.probabilities is None:
            raise InputError("Calibration needs the probabilities of classes; labels alone are not enough.")
        probabilities, labels = labelled_probabilities(prediction.probabilities, sample.label_map, self.num_classes)
        confidence, predicted = probabilities.max(0)
        of_label, rest = probabilities.gather(0, labels[None])[0], (1 - probabilities.sum(0)).clamp(min=0)
        brier = probabilities.square().sum(0) - 2 * of_label + 1 + rest.square()
        likelihood = -of_label.clamp(min=SMALLEST_PROBABILITY).log()
        sums = [
            _binned(confidence[None], (predicted == labels)[None], self.num_bins),
            torch.stack([per_pixel.cpu().double().sum() for per_pixel in (likelihood, brier)]),
        ]
        if self.classwise:
            classes = torch.arange(self.num_classes, device=labels.device)[:, None]
            sums.append(_binned(probabilities, labels == classes, self.num_bins))
        return torch.cat([part.flatten() for part in sums]).float()

    def scores(self, pooled: Tensor) -> dict[str, Tensor]:
        num_pixels = self.bins(pooled)[..., 0, :].sum(-1)
        scores = {
            "expected_calibration_error": _calibration_error(self.bins(pooled)),
            "negative_log_likelihood": pooled[..., 3 * self.num_bins] / num_pixels,
            "brier_score": pooled[..., 3 * self.num_bins + 1] / num_pixels,
        }
        if self.classwise:
            scores["classwise_calibration_error"] = self.per_class(pooled)["calibration_error"].mean(-1)
        return scores

    def per_class(self, pooled: Tensor) -> dict[str, Tensor]:
        if not self.classwise:
            return {}
        bins = pooled[..., 3 * self.num_bins + 2 :].reshape(*pooled.shape[:-1], self.num_classes, 3, self.num_bins)
        return {"calibration_error": _calibration_error(bins)}

    def details(self, pooled: Tensor) -> dict[str, Any]:
        diagram = self.diagram(pooled)
        named = {"pixels": diagram.num_pixels, "confidence": diagram.confidence, "accuracy": diagram.accuracy}
        bins = {name: [number(value) for value in values.tolist()] for name, values in named.items()}
        return {"bins": {"edges": diagram.edges.tolist(), **bins}}

    def diagram(self, pooled: Tensor) -> ReliabilityDiagram:
        """(S,) → accuracy against confidence"""
        num_pixels, confidence, right = self.bins(pooled).unbind(-2)
        edges = torch.linspace(0, 1, self.num_bins + 1, dtype=torch.float64)
        return ReliabilityDiagram(edges, num_pixels, confidence / num_pixels, right / num_pixels)

    def bins(self, pooled: Tensor) -> Tensor:
        """(…, S) → (…, 3, b): pixels, sum of confidences, right answers"""
        return pooled[..., : 3 * self.num_bins].reshape(*pooled.shape[:-1], 3, self.num_bins)


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Accuracy against confidence, to be drawn; a calibrated model lies on the diagonal.

    edges       (b + 1,) of the bins of confidence, 0 … 1
    num_pixels  (b,)
    confidence  (b,) mean of a bin, nan if it is empty
    accuracy    (b,) share of a bin's pixels that are right, nan if it is empty
    """

    edges: Tensor
    num_pixels: Tensor
    confidence: Tensor
    accuracy: Tensor

    @classmethod
    def of(cls, measurement: Measurement) -> ReliabilityDiagram:
        """measurement: of `Calibration`"""
        assert isinstance(measurement.metric, Calibration), f"{measurement.name} has no bins of confidence"
        return measurement.metric.diagram(measurement.pooled)


def nearest_indices(length: int, number: int) -> Tensor:
    """(number,) int64: of `length` pixels in a row those nearest to the centres of `number` equal stretches."""
    return ((2 * torch.arange(number) + 1) * length).div(2 * number, rounding_mode="floor")


def labelled_probabilities(probabilities: Tensor, label_map: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Probabilities (K, n) float32 of labelled pixels and their labels (n,) int64.

    probabilities  (K, h, w), label_map (H, W) uint8, see `Calibration`

    Raises: InputError if there is another number of classes, or a label is no class
    """
    if probabilities.shape[0] != num_classes:
        raise InputError(f"There are probabilities of {probabilities.shape[0]} classes, but {num_classes} classes.")
    rows, columns = map(nearest_indices, label_map.shape, probabilities.shape[1:])
    labels = label_map[rows.to(label_map.device)[:, None], columns.to(label_map.device)]
    labels = labels.flatten().to(probabilities.device)
    check_labels(torch.bincount(labels, minlength=IGNORE + 1), num_classes)
    valid = labels != IGNORE
    return probabilities.flatten(1)[:, valid].float(), labels[valid].long()


def _binned(confidence: Tensor, right: Tensor, num_bins: int) -> Tensor:
    """(C, n) confidences and whether they were right → (C, 3, b) float64, see `Calibration.bins`."""
    confidence, right = confidence.cpu(), right.cpu()  # float64 is not known to every device
    rows = torch.arange(len(confidence))[:, None] * num_bins
    bins = ((confidence * num_bins).ceil().long() - 1).clamp(0, num_bins - 1).add(rows).flatten()
    weights = (None, confidence.double().flatten(), right.double().flatten())
    sums = [torch.bincount(bins, w, minlength=len(confidence) * num_bins).double() for w in weights]
    return torch.stack(sums).view(3, len(confidence), num_bins).transpose(0, 1)


def _calibration_error(bins: Tensor) -> Tensor:
    """(…, 3, b) → (…)"""
    num_pixels, confidence, right = bins.unbind(-2)
    return (right - confidence).abs().sum(-1) / num_pixels.sum(-1)
