"""Compare a run with labelled data sets: mIoU per domain and class, under one stated protocol."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from queryseg.cli.corruption_options import add_corruption_options, with_corruptions
from queryseg.cli.evaluation_options import add_evaluation_options, chosen_protocol, named_sources
from queryseg.cli.output import console, progress_bar, write_json
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset, layout_and_split
from queryseg.data.protocol import Protocol, protocol_of
from queryseg.errors import UsageError
from queryseg.evaluation.domain_table import RunFacts, evaluate_many
from queryseg.evaluation.markdown_report import write_markdown
from queryseg.evaluation.measures import MEASURES
from queryseg.evaluation.provenance import provenance_warnings
from queryseg.evaluation.report import write_html
from queryseg.inference.engine import SegmentationEngine
from queryseg.inference.panoptic import segment_finder
from queryseg.inference.predictor import find_device, recorded_protocol, recorded_task
from queryseg.inference.run_folder import read_model
from queryseg.loading import is_exported
from queryseg.metrics import BoundaryIoU, Metric, Trimap
from queryseg.segmenter import Segmenter
from queryseg.types import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, data sets, and how to show the result."""
    parser.add_argument("run", type=Path, help="folder of a run, or an exported file")
    add_evaluation_options(parser)
    add_corruption_options(parser, None, "1,2,3,4,5")
    parser.add_argument(
        "--seen", nargs="*", metavar="NAME", help="data sets of the training domain (default: the first one)"
    )
    parser.add_argument("--num-examples", type=int, default=4, metavar="N", help="pictures per data set in the report")
    parser.add_argument(
        "--measures",
        default="",
        metavar="NAME,…",
        help=f"what else to measure, separated by commas: {', '.join(MEASURES)}",
    )
    parser.add_argument(
        "--task",
        choices=get_args(Task),
        help="whose segments the measure 'panoptic' compares: those that queries stand for (panoptic, instance), or "
        "pixels of one label that touch (semantic); default: what the run was trained for",
    )
    parser.add_argument(
        "--boundary-widths", nargs="+", type=int, metavar="PIXELS", help="of the measure boundary (default 1 3)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table for machines")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a self-contained report with pictures")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables for a README or a pull request")


def run(options: argparse.Namespace) -> int:
    """Print the table; write JSON and HTML on request."""
    files = named_sources(options.data)
    datasets, sources = with_corruptions({name: open_data(path) for name, path in files.items()}, files, options)
    measures = _measures(options, datasets.values())
    layouts = [layout_and_split(dataset)[0] for dataset in datasets.values()]
    model, recorded, facts, task = _source(options, layouts)
    with progress_bar("evaluating") as progress:
        table = evaluate_many(
            model,
            datasets,
            chosen_protocol(options, recorded),
            seen=options.seen,
            facts=facts,
            sources=sources,
            device=find_device(options.device) if isinstance(model, Segmenter) else None,
            num_workers=options.workers,
            num_examples=options.num_examples if options.html else 0,
            measures=measures,
            warnings=provenance_warnings(facts.recipe, files, datasets),
            find_segments=segment_finder(options.task or task),
            progress=progress,
        )
    console.print(table)
    write_json(options.json, table.to_json())
    if options.html:
        metrics = options.run / "metrics.csv"
        write_html(table, options.html, f"{options.run.name} across domains", metrics if metrics.exists() else None)
        console.print(f"Report: {options.html}", soft_wrap=True)
    if options.markdown:
        write_markdown(table, options.markdown)
    return 0


def _measures(options: argparse.Namespace, datasets: Iterable[SegmentationDataset]) -> list[str | Metric]:
    """Names; boundaries of other widths than usual as metrics. Raises: UsageError"""
    names = [name.strip() for name in options.measures.split(",") if name.strip()]
    if unknown := [name for name in names if name not in MEASURES]:
        raise UsageError(f"There is no measure '{unknown[0]}'; choose from {', '.join(MEASURES)}.")
    if options.boundary_widths is None:
        return list(names)
    if "boundary" not in names:
        raise UsageError("--boundary-widths are those of the measure boundary; add --measures boundary.")
    num_classes = len(next(iter(datasets)).classes)
    widths: list[Metric] = [kind(num_classes, options.boundary_widths) for kind in (Trimap, BoundaryIoU)]
    return [*widths, *(name for name in names if name != "boundary")]


def _source(
    options: argparse.Namespace, layouts: Sequence[str | None]
) -> tuple[Segmenter | SegmentationEngine, Protocol, RunFacts, Task]:
    """What is evaluated, the protocol that it was validated with, where it comes from, and what it was trained for.

    layouts  of the data sets, which an exported file must be able to see as the protocol says
    """
    if not is_exported(options.run):
        loaded = read_model(options.run, options.allow_code)
        facts = RunFacts.of(loaded.model, loaded.folder, loaded.recipe)
        return loaded.model, recorded_protocol(loaded.recipe), facts, recorded_task(loaded.recipe)
    from queryseg.export.exported_engine import check_protocol, open_exported

    engine = open_exported(options.run, options.device)
    record = engine.record
    protocol = chosen_protocol(options, record.protocol)
    for layout in layouts:
        check_protocol(protocol_of(protocol, layout), record)
    said = f"{record.format} file in {record.precision}, made of weights {record.weights[:12]}"
    return (
        engine,
        record.protocol,
        RunFacts(str(options.run), None, checkpoint=said, versions=record.versions),
        "semantic",
    )
