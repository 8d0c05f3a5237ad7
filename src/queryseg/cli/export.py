"""Write a run as a file for another runtime; it is kept only if it says what the run says (parity gate)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from queryseg.cli.evaluation_options import named_sources
from queryseg.cli.output import check_json, console, progress_bar, write_json
from queryseg.cli.run_options import add_class_options, add_run_options, asked_classes, tell_base, tell_classes
from queryseg.data.data_file import open_data
from queryseg.errors import UsageError
from queryseg.export.export_record import ExportPrecision
from queryseg.export.exported_engine import FORMATS
from queryseg.export.exporter import ExportOptions, export_model
from queryseg.inference.open_vocabulary import with_classes
from queryseg.inference.predictor import recorded_protocol
from queryseg.inference.query_pruning import TOLERANCE
from queryseg.inference.run_folder import read_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, a format, a file."""
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="of the images in pixels (default: the protocol's window, else the crop that the run was trained on)",
    )
    parser.add_argument("--precision", choices=get_args(ExportPrecision), help="default: the format's first")
    parser.add_argument("--dynamic-batch", action="store_true", help="any number of images at once")
    parser.add_argument("--dynamic-size", action="store_true", help="any image size, where the model allows it")
    parser.add_argument(
        "--scores", action="store_true", help="also give scores (K, H, W); always so if the protocol has windows"
    )
    parser.add_argument(
        "--segments", action="store_true", help="also give what predict --task panoptic and instance read segments of"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="NAME=DATA.yaml",
        help="what the gate compares on (default: generated streets of every domain)",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        default=[],
        metavar="NAME=DATA.yaml",
        help="images for int8 and --prune, shown as they are and shifted (default: generated streets)",
    )
    parser.add_argument(
        "--prune",
        type=float,
        nargs="?",
        const=TOLERANCE,
        metavar="TOLERANCE",
        help="leave out queries that these images do not need; no score of theirs changes by more (default %(const)s)",
    )
    parser.add_argument("--device", default="auto", help="where the gate runs the file (default auto)")
    add_run_options(parser)
    add_class_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the gate's figures, for machines")


def run(options: argparse.Namespace) -> int:
    """Convert, compare, write; print the gate's figures."""
    check_json(options.json)
    datasets = {name: open_data(path) for name, path in named_sources(options.data).items()} or None
    calibration = {name: open_data(path) for name, path in named_sources(options.calibrate).items()} or None
    loaded = read_model(options.run, options.allow_code, options.base)
    loaded = with_classes(loaded, asked_classes(options), options.text_tower)
    tell_base(options.run)
    tell_classes(loaded.vocabulary)
    protocol = recorded_protocol(loaded.recipe)
    crop = (loaded.recipe.get("data") or {}).get("crop")
    size = options.size or ([protocol.window] * 2 if protocol.window else crop)
    if size is None:
        raise UsageError(f"The run {options.run} names no size of images; give --size H W.")
    what = ExportOptions(
        (int(size[0]), int(size[1])),
        options.precision,
        options.dynamic_batch,
        options.dynamic_size,
        options.scores or protocol.window is not None,
        options.prune,
        options.segments,
    )
    with progress_bar("comparing") as progress:
        report = export_model(
            loaded.model,
            loaded.classes,
            protocol,
            options.format,
            options.out,
            what,
            datasets,
            calibration,
            progress=progress,
            device=options.device,
        )
    if report.pruning is not None:
        console.print(f"  {report.pruning}", soft_wrap=True)
    for row in report.rows:
        console.print(f"  {row}", soft_wrap=True)
    console.print(
        f"{options.out}: {what.size[0]}×{what.size[1]}, {report.precision}, {report.limit}: passed", soft_wrap=True
    )
    write_json(options.json, {"file": str(options.out), "size": what.size, **report.to_json()})
    return 0
