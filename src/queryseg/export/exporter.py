"""From a model to a file that passed the parity gate."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from queryseg import __version__
from queryseg.contracts import Readout
from queryseg.data.class_table import ClassTable
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError, QuerysegError
from queryseg.evaluation.class_agreement import check_classes
from queryseg.evaluation.evaluator import Progress
from queryseg.export.calibration import calibration, streets_of_all_domains
from queryseg.export.export_format import ExportFormat
from queryseg.export.export_record import ExportPrecision, ExportRecord
from queryseg.export.exported_engine import FORMATS, SEGMENT_READOUTS, ExportedEngine, check_protocol
from queryseg.export.exported_graph import prepare, trace
from queryseg.export.parity_gate import ParityError, ParityReport, gate_streets, other_size, parity_gate
from queryseg.inference.engine import Engine
from queryseg.inference.query_pruning import prune_queries
from queryseg.readouts import Mixture
from queryseg.segmenter import Segmenter


@dataclass(frozen=True)
class ExportOptions:
    """What to make.

    size           (height, width) of the images in pixels
    precision      see the format's `precisions`; None: its first
    dynamic_batch  any number of images at once
    dynamic_size   any image size, where the model allows it; the gate then also tries another size
    scores         also give scores (B, K, H, W); needed for protocols with windows
    prune          leave out queries that the calibration images do not need, at this tolerance, see `prune_queries`;
                   the gate compares with the pruned model and says how many labels pruning itself changes
    segments       also give what segments are read of: class logits and scores of queries, and mask logits on their own
                   grid; not in int8
    """

    size: tuple[int, int]
    precision: ExportPrecision | None = None
    dynamic_batch: bool = False
    dynamic_size: bool = False
    scores: bool = False
    prune: float | None = None
    segments: bool = False


def export_model(
    model: Segmenter,
    classes: ClassTable,
    protocol: Protocol,
    format: str,
    path: Path,
    options: ExportOptions,
    datasets: Mapping[str, SegmentationDataset] | None = None,
    calibration_data: Mapping[str, SegmentationDataset] | None = None,
    progress: Progress | None = None,
    device: str = "auto",
) -> ParityReport:
    """Write `path` (and files beside it, see the format) if the parity gate accepts it; a file that it refuses is kept
    under NAME.rejected for inspection.

    model        is left as it is
    datasets     what the gate compares on; None: generated streets of every domain
    calibration_data  images for the ranges of int8 and for pruning, see `calibration`; None: generated streets of every
                 domain
    device       where the gate runs the file

    Raises: InputError for what the format or the model cannot do, ParityError
    """
    exporter = _format(format, path)
    record = _record(model, classes, protocol, exporter, options)
    exporter.check(record)
    check_protocol(protocol, record)
    int8 = record.precision == "int8"
    if options.prune is not None and options.segments:
        raise InputError(
            "Pruning bounds scores of classes and not the masks of segments; leave out --prune or --segments."
        )
    if calibration_data is not None and not int8 and options.prune is None:
        raise InputError(
            f"Only int8 and pruned files are calibrated, and this one is {record.precision}; leave out --calibrate."
        )
    # mIoU needs more images than agreement, which counts every pixel
    gate_data = gate_streets(record.size, 20 if int8 else 2) if datasets is None else datasets
    _check_data(record, gate_data, given=datasets is not None)
    images, record = _calibrated(record, options, calibration_data)
    unpruned = pruning = None
    if options.prune is not None:
        unpruned = Engine(model.eval())
        model, pruning = prune_queries(model, (image[0] for image in images), options.prune)
    save = exporter.convert(trace(prepare(model, record), record, half=exporter.traces_half), record, images)
    report: ParityReport | None = None
    with _folder_beside(path) as hidden:
        file = Path(hidden) / path.name
        save(file, record)
        try:
            exported = ExportedEngine(exporter.open(file, device))
            sizes = (None, other_size(record.size)) if record.dynamic_size else (None,)
            report = parity_gate(
                Engine(model.eval()), exported, gate_data, sizes=sizes, progress=progress, unpruned=unpruned
            )
            report = replace(report, pruning=pruning)
            report.check()
        except QuerysegError as error:
            rejected = _move(exporter.files(file), path.parent, ".rejected")
            kind = ParityError if isinstance(error, ParityError) else InputError
            raise kind(f"{path} was not written ({rejected[0].name} is what would have been): {error}") from None
        save(file, replace(record, parity=report.to_json()))
        _move(exporter.files(file), path.parent, "")
    return report


def write_ungated(
    model: Segmenter, classes: ClassTable, format: str, path: Path, options: ExportOptions, images_per_domain: int = 1
) -> None:
    """`export_model` without the gate, calibrated with few images: for files whose time matters and whose labels do
    not, as of a model with random weights.

    Raises: InputError for what the format or the model cannot do
    """
    exporter = _format(format, path)
    record = _record(model, classes, Protocol(), exporter, options)
    exporter.check(record)
    images, record = _calibrated(record, options, streets_of_all_domains(record.size, images_per_domain, seed=0))
    exporter.convert(trace(prepare(model, record), record, half=exporter.traces_half), record, images)(path, record)


def _calibrated(
    record: ExportRecord, options: ExportOptions, datasets: Mapping[str, SegmentationDataset] | None
) -> tuple[Sequence[Tensor], ExportRecord]:
    """Images (1, 3, H, W) if int8 or pruning needs them, and the record that names them."""
    if record.precision != "int8" and options.prune is None:
        return (), record
    shown = calibration(record, datasets)
    return shown.images, replace(record, calibration=shown.sources)


def weights_digest(model: Segmenter) -> str:
    """sha256 of the model.safetensors that a run with these weights holds."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return hashlib.sha256(safetensors_bytes(weights)).hexdigest()


def _format(name: str, path: Path) -> ExportFormat:
    if name not in FORMATS:
        raise InputError(f"There is no format '{name}'; choose from: {', '.join(FORMATS)}.")
    exporter = FORMATS[name]
    if path.suffix != exporter.suffix:
        raise InputError(
            f"'{path.name}' does not end in {exporter.suffix}, by which format {name} is known when it is loaded; "
            f"name it {path.with_suffix(exporter.suffix).name}."
        )
    return exporter


def _record(
    model: Segmenter, classes: ClassTable, protocol: Protocol, exporter: ExportFormat, options: ExportOptions
) -> ExportRecord:
    precision = options.precision or exporter.precisions[0]
    if precision not in exporter.precisions:
        raise InputError(
            f"Format {exporter.name} does not come in {precision}; choose from: {', '.join(exporter.precisions)}."
        )
    if min(options.size) < 1:
        raise InputError(f"The size {options.size[0]}×{options.size[1]} has no pixels; give height and width.")
    if options.segments:
        _check_segments(model, classes, precision)
    return ExportRecord(
        exporter.name,
        precision,
        classes,
        protocol,
        options.size,
        options.dynamic_batch,
        options.dynamic_size,
        options.scores,
        model.backbone.mean,
        model.backbone.std,
        weights_digest(model),
        {"queryseg": __version__, "torch": str(torch.__version__), **exporter.versions()},
        multiple=model.canvas(1, 1) if options.dynamic_size else (1, 1),
        segments=_segment_readout(model.readout) if options.segments else {},
        canvas=None if options.dynamic_size else model.canvas(*options.size),
    )


def _segment_readout(readout: Readout) -> dict[str, Any]:
    assert isinstance(readout, Mixture)  # so says `_check_segments`
    return {"readout": type(readout).__name__, **readout.options}


def _check_segments(model: Segmenter, classes: ClassTable, precision: ExportPrecision) -> None:
    """Raises: InputError"""
    if type(model.readout).__name__ not in SEGMENT_READOUTS:
        raise InputError(
            f"The readout {type(model.readout).__name__} is not kept in exported files, so no segments can be read of "
            "them; leave --segments out."
        )
    if not classes.things:
        raise InputError(f"No class of '{classes.name}' is a thing, so there are no objects; leave --segments out.")
    if precision == "int8":
        raise InputError("int8 files are judged by their mIoU alone; export segments in another precision.")


def _check_data(record: ExportRecord, datasets: Mapping[str, SegmentationDataset], given: bool) -> None:
    for name, dataset in datasets.items():
        if dataset.classes.names == record.classes.names:
            continue
        if given:
            check_classes(record.classes.names, dataset, name)
        if record.precision == "int8":
            raise InputError(
                "An int8 file is judged by its mIoU, which needs labelled images of the model's classes; give them "
                "with --data NAME=DATA.yaml."
            )


def _folder_beside(path: Path) -> tempfile.TemporaryDirectory[str]:
    """On the same disk, so that moving is instant and a crash leaves no file that looks finished."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".queryseg-export-", dir=path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another with --out.") from None


def _move(files: Sequence[Path], folder: Path, suffix: str) -> list[Path]:
    moved = [folder / (file.name + suffix) for file in files]
    for file, target in zip(reversed(files), reversed(moved), strict=True):  # the main file last
        os.replace(file, target)
    return moved
