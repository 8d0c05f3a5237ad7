"""The images on which runs do worst, with what every run says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol, ProtocolPreset
from queryseg.evaluation.evaluation import Example
from queryseg.evaluation.evaluator import predict_examples
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix, image_order
from queryseg.inference.engine import SegmentationEngine
from queryseg.metrics.measurement import number
from queryseg.segmenter import Segmenter

Shown = tuple[Segmenter | SegmentationEngine, Protocol | ProtocolPreset]
"""A model, and how it is shown images."""


@dataclass(frozen=True)
class WorstImage:
    """scores: run → mean IoU of this image alone, over the classes that are labelled or predicted in it; examples: run
    → its prediction."""

    target: str
    name: str
    scores: Mapping[str, float]
    examples: Mapping[str, Example]

    def to_json(self) -> dict[str, Any]:
        scores = {run: number(score) for run, score in self.scores.items()}
        return {"target": self.target, "name": self.name, "mean_iou": scores}


def worst_images(
    matrix: DomainMatrix, models: Mapping[str, Shown], datasets: Mapping[str, SegmentationDataset], number_each: int
) -> list[WorstImage]:
    """Of every target, worst first: by the mean over runs of the image's own mIoU. These images are predicted once
    more, so that nothing has to be kept of all the others.

    models    run → as it was evaluated
    datasets  target → as it was evaluated

    Raises: InputError if an image cannot be read any more
    """
    found = []
    for target in matrix.targets:
        indices = image_order(matrix, target)[:number_each]
        examples = {
            run: predict_examples(model, datasets[target], protocol, indices)
            for run, (model, protocol) in models.items()
        }
        for place, index in enumerate(indices):
            shown = {run: examples[run][place] for run in matrix.runs}
            scores = {run: float(matrix.evaluation(run, target).image_iou[index]) for run in matrix.runs}
            found.append(WorstImage(target, shown[matrix.runs[0]].name, scores, shown))
    return found
