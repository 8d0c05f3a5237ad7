"""Compares an exported file with the model that it was made from, and refuses it if they differ too much.

Both see the same pixels: every image is fitted to the file's size first (`ExportedEngine.fit`), so that what is
measured is the export and not the size. Noise would be a bad test: models call all of it one class.

Shape legend: B images, K classes, h×w the size that the file was made for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import isnan, nan
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import InputError, QuerysegError, reason_of
from queryseg.evaluation.evaluator import Progress, spread
from queryseg.export.calibration import streets_of_all_domains
from queryseg.export.export_record import ExportPrecision
from queryseg.export.exported_engine import ExportedEngine
from queryseg.inference.engine import Engine, Size
from queryseg.inference.query_pruning import PruningReport
from queryseg.inference.windows import resized
from queryseg.metrics.confusion import confusion_matrix, mean_iou
from queryseg.metrics.measurement import number
from queryseg.types import IGNORE

MIN_AGREEMENT: Mapping[ExportPrecision, float] = {"fp32": 0.9999, "bf16": 0.995, "fp16": 0.995}
"""Smallest share of pixels that must keep their label, on every data set."""
MAX_MIOU_DROP = 0.005
"""Largest loss of mIoU (0…1) of int8 files, on every data set."""
_SEED = 2_000_000


class ParityError(QuerysegError):
    """An exported file that does not say what its model says."""


@dataclass(frozen=True)
class Parity:
    """One data set. Agreement is a share of pixels; scores and mIoU are nan where there are none.

    num_classes        that the model itself predicts in these images
    kept_by_pruning    share of labels that the model had before its queries were pruned; nan if they were not
    segment_agreement  share of pixels with the same class and object in panoptic readings; nan for files without
    """

    name: str
    num_images: int
    num_classes: int
    agreement: float
    max_score_error: float
    mean_score_error: float
    mean_iou_model: float
    mean_iou_export: float
    kept_by_pruning: float = nan
    segment_agreement: float = nan

    @property
    def mean_iou_change(self) -> float:
        return self.mean_iou_export - self.mean_iou_model

    def passes(self, precision: ExportPrecision) -> bool:
        if precision == "int8":
            return self.mean_iou_change >= -MAX_MIOU_DROP
        agreements = [self.agreement] if isnan(self.segment_agreement) else [self.agreement, self.segment_agreement]
        return min(agreements) >= MIN_AGREEMENT[precision]

    def __str__(self) -> str:
        text = f"{self.name}: {100 * self.agreement:.3f} % of labels agree"
        if not isnan(self.segment_agreement):
            text += f", {100 * self.segment_agreement:.3f} % of pixels are of the same segment"
        if not isnan(self.mean_iou_change):
            text += f", mIoU {100 * self.mean_iou_model:.2f} → {100 * self.mean_iou_export:.2f}"
        if not isnan(self.kept_by_pruning):
            text += f"; pruning kept {100 * self.kept_by_pruning:.3f} % of labels"
        return text

    def to_json(self) -> dict[str, Any]:
        values = {**asdict(self), "mean_iou_change": self.mean_iou_change}
        return {name: number(value) if isinstance(value, float) else value for name, value in values.items()}


@dataclass(frozen=True)
class ParityReport:
    """All data sets, under the limit of one precision; pruning: what was left out of the model before."""

    precision: ExportPrecision
    rows: tuple[Parity, ...]
    pruning: PruningReport | None = None

    @property
    def limit(self) -> str:
        if self.precision == "int8":
            return f"mIoU may drop by {100 * MAX_MIOU_DROP:g} point"
        return f"{100 * MIN_AGREEMENT[self.precision]:g} % of labels must agree"

    @property
    def passed(self) -> bool:
        return all(row.passes(self.precision) for row in self.rows)

    def check(self) -> None:
        """Raises: ParityError if a data set fails, InputError if the comparison could not have failed"""
        if failed := [row for row in self.rows if not row.passes(self.precision)]:
            raise ParityError(
                f"the parity gate refused it: {'; '.join(map(str, failed))}, but {self.limit} in {self.precision}."
            )
        if max(row.num_classes for row in self.rows) < 2:
            raise InputError(
                "the parity gate cannot tell: the model itself calls all test images one class; give images of its own "
                "kind with --data NAME=DATA.yaml, or train it longer."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `ExportRecord.parity` keeps them."""
        rows = [row.to_json() for row in self.rows]
        pruning = None if self.pruning is None else self.pruning.to_json()
        return {
            "passed": self.passed, "precision": self.precision, "limit": self.limit, "data": rows, "pruning": pruning,
        }  # fmt: skip


def parity_gate(
    engine: Engine,
    exported: ExportedEngine,
    datasets: Mapping[str, SegmentationDataset],
    num_images: int = 20,
    sizes: Sequence[Size | None] = (None,),
    progress: Progress | None = None,
    unpruned: Engine | None = None,
) -> ParityReport:
    """Both on the same images, data set by data set; never raises because they differ (see `ParityReport.check`).

    engine      of the original model
    datasets    see `gate_streets`, or labelled images of the model's classes; labels of other classes are not compared
    num_images  of each data set at most, evenly spread
    sizes       (H, W) in pixels to which images are resized before; None: their own. One row for each
    unpruned    engine of the model before its queries were pruned; what that changed is reported and not judged
    """
    rows: list[Parity] = []
    for size, (name, dataset) in product(sizes, datasets.items()):
        if progress is not None:
            progress(len(rows), len(sizes) * len(datasets))
        rows.append(_compare(engine, exported, name, dataset, num_images, size, unpruned))
    return ParityReport(exported.record.precision, tuple(rows))


def gate_streets(size: tuple[int, int], num_images: int = 2) -> dict[str, SegmentationDataset]:
    """Generated streets of every domain at this size: what the gate sees if no data set is given."""
    streets = streets_of_all_domains(size, num_images, _SEED)
    return {f"streets_{domain}": own for domain, own in streets.items()}


def other_size(size: Size) -> Size:
    """Flatter, with other numbers of patches and no multiple of any patch: what files of dynamic size are tried with
    besides the size that they were made for."""
    return max(1, 3 * size[0] // 4 - 1), 5 * size[1] // 4 + 1


def _compare(
    engine: Engine,
    exported: ExportedEngine,
    name: str,
    dataset: SegmentationDataset,
    num_images: int,
    size: Size | None,
    unpruned: Engine | None,
) -> Parity:
    if size is not None:
        name = f"{name} at {size[0]}×{size[1]}"
    labelled = dataset.classes.names == exported.record.classes.names
    num_classes = len(exported.record.classes)
    confusions = torch.zeros(2, num_classes, num_classes, dtype=torch.int64)
    seen = torch.zeros(num_classes, dtype=torch.int64)
    num_pixels = num_equal = num_kept = num_scores = num_same = 0
    total_error, max_error = 0.0, 0.0
    for image, label_map in _images(dataset, num_images):
        if size is not None:
            image = resized(image, size)
        fitted, covered = exported.fit(image[None])
        expected, found = _read(engine, exported, fitted)
        labels = [one[0][0, : covered[0], : covered[1]].cpu() for one in (expected, found)]
        num_pixels += labels[0].numel()
        num_equal += int((labels[0] == labels[1]).sum())
        if unpruned is not None:
            with torch.no_grad():
                before = unpruned(fitted.to(unpruned.device))[0, : covered[0], : covered[1]].cpu()
            num_kept += int((before == labels[0]).sum())
        seen += torch.bincount(labels[0].flatten().long(), minlength=IGNORE + 1)[:num_classes]  # 255: nothing
        if exported.record.segments:
            num_same += _same_segments(engine, exported, fitted, covered)
        if exported.record.scores:
            error = (expected[1] - found[1]).cpu()[..., : covered[0], : covered[1]].abs()
            max_error = max(max_error, float(error.max()))
            total_error, num_scores = total_error + float(error.double().sum()), num_scores + error.numel()
        if labelled:
            for index, one in enumerate(labels):
                size_of_labels = (label_map.shape[0], label_map.shape[1])
                whole = F.interpolate(one[None, None], size_of_labels, mode="nearest-exact")[0, 0]
                nothing = whole == IGNORE  # of either file alike; what is compared here is the rest
                known = label_map.masked_fill(nothing, IGNORE)
                confusions[index] += confusion_matrix(whole.masked_fill(nothing, 0), known, num_classes)
    scored = mean_iou(confusions).tolist() if labelled else [nan] * 2
    errors = (max_error, total_error / num_scores) if num_scores else (nan, nan)
    images = min(num_images, len(dataset))
    kept = nan if unpruned is None else num_kept / num_pixels
    same = num_same / num_pixels if exported.record.segments else nan
    shares = (num_equal / num_pixels, *errors, scored[0], scored[1], kept, same)
    return Parity(name, images, int((seen > 0).sum()), *shares)


@torch.no_grad()
def _same_segments(engine: Engine, exported: ExportedEngine, fitted: Tensor, covered: Size) -> int:
    """Pixels of one image, as `exported.fit` gives it, that are of the same segment for both."""
    things = exported.record.classes.things
    maps = []
    for one in (engine, exported):
        (found,) = one.readout.panoptic(*one.read(fitted.to(one.device)), things)
        maps.append([each[: covered[0], : covered[1]].cpu() for each in found.maps(things)])
    return int(((maps[0][0] == maps[1][0]) & (maps[0][1] == maps[1][1])).sum())


def _images(dataset: SegmentationDataset, num_images: int) -> Iterator[tuple[Tensor, Tensor]]:
    for index in spread(len(dataset), num_images):
        sample = dataset[index]
        yield sample.image, sample.label_map


@torch.no_grad()
def _read(engine: Engine, exported: ExportedEngine, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Labels[, scores] of both."""
    own = images.to(engine.device)
    finding = engine.find(own)
    expected = (finding.labels(), finding.scores()) if exported.record.scores else (finding.labels(),)
    try:
        return expected, tuple(exported.runner.run(images.to(exported.device).contiguous()))
    except Exception as error:  # every runtime has its own kinds
        height, width = images.shape[-2:]
        raise ParityError(f"the parity gate refused it: it stops at {height}×{width} ({reason_of(error)}).") from error
