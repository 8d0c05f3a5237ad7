"""From a model to a file that passed the parity gate."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes

from queryseg import __version__
from queryseg.data.class_table import ClassTable
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError, QuerysegError
from queryseg.evaluation.evaluator import Progress
from queryseg.export.calibration import Calibration, calibration
from queryseg.export.export_format import ExportFormat
from queryseg.export.export_record import ExportPrecision, ExportRecord
from queryseg.export.exported_engine import FORMATS, ExportedEngine, check_windows
from queryseg.export.exported_graph import prepare, trace
from queryseg.export.parity_gate import ParityError, ParityReport, gate_streets, other_size, parity_gate
from queryseg.inference.engine import Engine
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
    segments       also give what segments are read of: class logits and scores of queries, and mask logits on their own
                   grid; not in int8
    """

    size: tuple[int, int]
    precision: ExportPrecision | None = None
    dynamic_batch: bool = False
    dynamic_size: bool = False
    scores: bool = False
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
    calibration_data  images for the ranges of int8, see `calibration`; None: generated streets of every domain
    device       where the gate runs the file

    Raises: InputError for what the format or the model cannot do, ParityError
    """
    exporter = _format(format, path)
    record = _record(model, classes, protocol, exporter, options)
    exporter.check(record)
    if protocol.window is not None:
        check_windows(protocol, record)
    int8 = record.precision == "int8"
    if calibration_data is not None and not int8:
        raise InputError(f"Only int8 files are calibrated, and this one is {record.precision}; leave out --calibrate.")
    # mIoU needs more images than agreement, which counts every pixel
    gate_data = gate_streets(record.size, 20 if int8 else 2) if datasets is None else datasets
    _check_data(record, gate_data, given=datasets is not None)
    ranges = calibration(record, calibration_data) if int8 else Calibration((), {})
    record = replace(record, calibration=ranges.sources)
    prepared = prepare(model, record)
    traced = trace(prepared, record, half=exporter.traces_half)
    save = exporter.convert(traced, record, ranges.images)
    report: ParityReport | None = None
    with _folder_beside(path) as hidden:
        file = Path(hidden) / path.name
        save(file, record)
        try:
            exported = ExportedEngine(exporter.open(file, device))
            sizes = (None, other_size(record.size)) if record.dynamic_size else (None,)
            report = parity_gate(Engine(model.eval()), exported, gate_data, sizes=sizes, progress=progress)
            report.check()
        except QuerysegError as error:
            rejected = _move(exporter.files(file), path.parent, ".rejected")
            kind = ParityError if isinstance(error, ParityError) else InputError
            raise kind(f"{path} was not written ({rejected[0].name} is what would have been): {error}") from None
        save(file, replace(record, parity=report.to_json()))
        _move(exporter.files(file), path.parent, "")
    return report


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
        segments=model.readout.options if options.segments and isinstance(model.readout, Mixture) else {},
        canvas=None if options.dynamic_size else model.canvas(*options.size),
    )


def _check_segments(model: Segmenter, classes: ClassTable, precision: ExportPrecision) -> None:
    """Raises: InputError"""
    if type(model.readout) is not Mixture:
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
            raise InputError(
                f"Data set '{name}' has other classes than the model; give its data file the model's classes and a "
                "label_map that leads to them."
            )
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
