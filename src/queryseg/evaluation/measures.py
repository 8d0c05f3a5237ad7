"""What can be measured besides the labels of all pixels, and what it asks of a model.

Shape legend: K classes, H×W pixels of the label, h×w the pixels whose probabilities are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.engine import CompiledEngine, Engine, SegmentationEngine, Size
from queryseg.inference.windows import find, protocol_labels
from queryseg.metrics.boundary_iou import BoundaryIoU
from queryseg.metrics.calibration import Calibration, nearest_indices
from queryseg.metrics.metric import Metric, PanopticMap, PredictedMaps
from queryseg.metrics.panoptic_quality import PanopticQuality
from queryseg.metrics.trimap import Trimap
from queryseg.types import Sample

MEASURES: dict[str, Callable[[ClassTable], list[Metric]]] = {
    "boundary": lambda classes: [Trimap(len(classes)), BoundaryIoU(len(classes))],
    "panoptic": lambda classes: [PanopticQuality(len(classes), classes.things)],
    "calibration": lambda classes: [Calibration(len(classes))],
}
"""Name → its metrics with their usual settings."""

Measures = Sequence[str | Metric]
"""Names, or metrics with settings of one's own, which stay as they are."""

SegmentFinder = Callable[[SegmentationEngine, Tensor, Protocol, ClassTable, Size], tuple[Tensor, Tensor]]
"""Engine, image, protocol, classes and size of the label → label_map and instance_map, see `PanopticMap`."""

COMPONENTS, MODEL_SEGMENTS = "connected components of the labels", "the model's own"
"""What predicted objects are; stands beside panoptic quality."""

_STRIDE = 4
"""Probabilities are looked at in every fourth pixel of every fourth row: the masks' own grid is about as coarse."""


def build_metrics(measures: Measures, classes: ClassTable, find_segments: SegmentFinder | None = None) -> list[Metric]:
    """Metrics that have seen nothing, each once. Raises: InputError if a name is unknown"""
    metrics: dict[str, Metric] = {}
    for measure in measures:
        if isinstance(measure, str) and measure not in MEASURES:
            raise InputError(f"There is no measure '{measure}'; choose from {', '.join(MEASURES)}.")
        for metric in MEASURES[measure](classes) if isinstance(measure, str) else [measure.blank()]:
            metrics[metric.name] = metric
    for metric in metrics.values():
        if isinstance(metric, PanopticQuality):
            metric.segments = COMPONENTS if find_segments is None else MODEL_SEGMENTS
    return list(metrics.values())


def check_measurable(measures: Measures, datasets: Mapping[str, SegmentationDataset]) -> None:
    """Say before hours of work what cannot be measured. Raises: InputError"""
    for name, dataset in datasets.items():
        metrics = build_metrics(measures, dataset.classes)
        asks = any("panoptic" in metric.needs for metric in metrics) and dataset.classes.things
        if asks and len(dataset) and dataset[0].instance_map is None:
            raise InputError(
                f"Data set '{name}' tells no objects apart (it has no instance maps), which panoptic quality compares; "
                "leave out the data set or the measure."
            )


class MapReader:
    """What a model says of a data set's images, as far as metrics ask.

    find_segments  for panoptic quality; None: connected pixels of one thing are one object
    """

    def __init__(
        self,
        engine: SegmentationEngine,
        protocol: Protocol,
        classes: ClassTable,
        needs: Collection[str],
        find_segments: SegmentFinder | None = None,
    ) -> None:
        self.engine, self.protocol, self.classes, self.needs = engine, protocol, classes, needs
        self.find_segments = find_segments

    def read(self, sample: Sample) -> PredictedMaps:
        """One forward pass. At the label's size; probabilities at every fourth pixel in both directions.

        Raises: InputError if the model cannot say what is asked for
        """
        size = (sample.label_map.shape[0], sample.label_map.shape[1])
        if "probabilities" not in self.needs:
            return PredictedMaps(protocol_labels(self.engine, sample.image, self.protocol, size))
        engine = self.engine.engine if isinstance(self.engine, CompiledEngine) else self.engine
        if not isinstance(engine, Engine):
            raise InputError(
                "An exported file does not tell how likely its labels are; measure the calibration of the run that it "
                "was made from."
            )
        scores = find(self.engine, sample.image, self.protocol, size).scores()
        labels = scores.permute(0, 2, 3, 1).argmax(-1).byte()  # as `Readout.labels`
        rows, columns = (nearest_indices(n, -(-n // _STRIDE)).to(scores.device) for n in size)
        probabilities = engine.model.readout.probabilities(scores[:, :, rows[:, None], columns].float())
        return PredictedMaps(labels[0], probabilities=probabilities[0])

    def segments(self, sample: Sample, labels: Tensor) -> PanopticMap:
        """labels (H, W), what `read` found. Raises: InputError if the model tells no objects apart"""
        if self.find_segments is None:
            return components(labels, self.classes.things)
        size = (sample.label_map.shape[0], sample.label_map.shape[1])
        return PanopticMap(*self.find_segments(self.engine, sample.image, self.protocol, self.classes, size))


def components(label_map: Tensor, things: Collection[int]) -> PanopticMap:
    """Objects of a model that tells none apart: pixels of one thing that touch, corners included.

    label_map (H, W) uint8
    """
    labels = label_map.cpu().numpy()
    instances = np.zeros(labels.shape, np.int32)
    for thing in sorted(things):
        mask = labels == thing
        if mask.any():
            found, _ = ndimage.label(mask, np.ones((3, 3)))
            instances = np.where(mask, found + instances.max(), instances)
    return PanopticMap(label_map, torch.from_numpy(instances.astype(np.int32)).to(label_map.device))
