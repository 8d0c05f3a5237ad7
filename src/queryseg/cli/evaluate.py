"""Compare one or several runs with labelled data sets: mIoU per domain, condition, corruption and class, under one
stated protocol. Several runs stand in one table, sources × targets, with their time per image."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from queryseg.cli.corruption_options import add_corruption_options, with_corruptions
from queryseg.cli.evaluated_runs import EvaluatedRun, open_runs
from queryseg.cli.evaluation_options import add_evaluation_options, named_sources
from queryseg.cli.output import check_json, console, progress_bar, write_json
from queryseg.cli.run_options import add_base_option, add_class_options
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset, layout_and_split
from queryseg.data.protocol import protocol_of
from queryseg.errors import QuerysegError, UsageError
from queryseg.evaluation.domain_table import DomainTable, evaluate_many
from queryseg.evaluation.evaluator import spread
from queryseg.evaluation.markdown_report import write_markdown
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.matrix.latency import Latency
from queryseg.evaluation.matrix.latex_report import write_latex
from queryseg.evaluation.matrix.matrix_grids import conditions, corruption_means, measure_scores, sources_by_targets
from queryseg.evaluation.matrix.matrix_report import further_sections, write_matrix_html
from queryseg.evaluation.matrix.published_points import published_points, settings
from queryseg.evaluation.matrix.worst_images import WorstImage, worst_images
from queryseg.evaluation.measures import MEASURES
from queryseg.evaluation.provenance import provenance_warnings
from queryseg.evaluation.report import write_html
from queryseg.inference.panoptic import segment_finder
from queryseg.inference.predictor import find_device
from queryseg.metrics import BoundaryIoU, Metric, Trimap
from queryseg.segmenter import Segmenter
from queryseg.types import Task

_TIMED_IMAGES = 4
_ROUNDS = 10  # of timing, if several runs are compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, data sets, and how to show the result."""
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]RUN", help="folders of runs, or exported files; several make a matrix"
    )
    add_evaluation_options(parser)
    add_corruption_options(parser, None, "1,2,3,4,5")
    parser.add_argument(
        "--seen",
        nargs="*",
        metavar="[RUN=]NAME",
        help="data sets of the training domain, of all runs or of one (default: the first data set)",
    )
    parser.add_argument("--num-examples", type=int, default=4, metavar="N", help="pictures per data set in the report")
    parser.add_argument(
        "--num-worst", type=int, default=2, metavar="N", help="worst images per data set in the report (default 2)"
    )
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
    parser.add_argument(
        "--timing-rounds",
        type=int,
        metavar="N",
        help=f"in which runs take turns at {_TIMED_IMAGES} images; 0: no timing (default {_ROUNDS}, of one run 0)",
    )
    parser.add_argument(
        "--published",
        default=next(iter(settings())),
        choices=[*settings(), "none"],
        help="whose published points stand beside the runs in the plot of mIoU against time (default %(default)s)",
    )
    add_base_option(parser)
    add_class_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table for machines")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a self-contained report with pictures")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables for a README or a pull request")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="the tables for a paper")


def run(options: argparse.Namespace) -> int:
    """Print the table; write the files that were asked for."""
    _check_numbers(options)
    for path in (options.json, options.html, options.markdown, options.latex):
        check_json(path)
    files = named_sources(options.data)
    clean = {name: open_data(path) for name, path in files.items()}
    datasets, sources = with_corruptions(clean, files, options)
    measures = _measures(options, datasets.values())
    runs = open_runs(options.runs, datasets, options)
    warnings = {name: provenance_warnings(one.facts.recipe, files, datasets) for name, one in runs.items()}
    tables: dict[str, DomainTable] = {}
    kept: list[str] = []
    try:
        for name, one in runs.items():
            with progress_bar("evaluating" if len(runs) == 1 else f"evaluating {name}") as progress:
                tables[name] = evaluate_many(
                    one.model,
                    datasets,
                    one.protocol,
                    seen=one.seen,
                    facts=one.facts,
                    sources=sources,
                    device=find_device(options.device) if isinstance(one.model, Segmenter) else None,
                    num_workers=options.workers,
                    num_examples=options.num_examples if options.html and len(runs) == 1 else 0,
                    measures=measures,
                    find_segments=segment_finder(options.task or one.task),
                    warnings=warnings[name],
                    progress=progress,
                )
            write_json(options.json, _content(DomainMatrix(tables), len(runs) > 1))
            kept = list(tables) if options.json else []
        latencies = _latencies(runs, clean, options)
    except QuerysegError:
        if tables and len(runs) > 1:
            _print(DomainMatrix(tables))
            if kept:
                console.print(f"Kept in {options.json}: the results of {', '.join(kept)}.", soft_wrap=True)
        raise
    published = () if options.published == "none" else published_points(options.published)
    matrix = DomainMatrix(tables, latencies, published if latencies else ())
    _print(matrix)
    worst = []
    if options.html or options.json:
        models = {name: (one.model, one.protocol) for name, one in runs.items()}
        worst = worst_images(matrix, models, clean, options.num_worst)
    write_json(options.json, _content(matrix, len(runs) > 1, worst))
    if options.html:
        _write_page(matrix, runs, worst, options.html)
        console.print(f"Report: {options.html}", soft_wrap=True)
    if options.markdown:
        write_markdown(matrix if len(runs) > 1 else next(iter(tables.values())), options.markdown)
    if options.latex:
        write_latex(matrix, options.latex)
    return 0


def _check_numbers(options: argparse.Namespace) -> None:
    for name in ("num_worst", "timing_rounds", "num_examples"):
        value = getattr(options, name)
        if value is not None and value < 0:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; give 0 or more.")


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


def _latencies(
    runs: Mapping[str, EvaluatedRun], datasets: Mapping[str, SegmentationDataset], options: argparse.Namespace
) -> dict[str, Latency]:
    """Of all runs in turns, on images of the first data set."""
    rounds = options.timing_rounds
    rounds = (_ROUNDS if len(runs) > 1 else 0) if rounds is None else rounds
    if not rounds:
        return {}
    from queryseg.benchmarking.run_latency import measure_latencies

    dataset = next(iter(datasets.values()))
    images = [dataset[i].image for i in spread(len(dataset), _TIMED_IMAGES)]
    layout = layout_and_split(dataset)[0]
    engines = {name: (one.engine, protocol_of(one.protocol, layout)) for name, one in runs.items()}
    with progress_bar("timing") as progress:
        return measure_latencies(engines, images, rounds, progress)


def _content(matrix: DomainMatrix, several: bool, worst: Iterable[WorstImage] = ()) -> dict[str, object]:
    """For machines: the table of a single run, or all of them by name; and what is made of them."""
    tables = {name: table.to_json() for name, table in matrix.tables.items()}
    found = {**matrix.to_json(), "worst_images": [one.to_json() for one in worst]}
    return {"runs": tables, "matrix": found} if several else {**next(iter(tables.values())), "matrix": found}


def _print(matrix: DomainMatrix) -> None:
    if len(matrix.runs) == 1:
        console.print(matrix.tables[matrix.runs[0]])
        return
    grids = [sources_by_targets(matrix), *conditions(matrix), *corruption_means(matrix), *measure_scores(matrix)]
    for grid in grids:
        console.print(grid)
    for run, latency in matrix.latencies.items():
        console.print(f"{run}: {latency.median:.1f} ms per image", markup=False)
    if matrix.latencies:
        console.print(next(iter(matrix.latencies.values())).caption, markup=False)
    for caption in matrix.captions:
        console.print(caption, markup=False)
    console.print("* training domain of the run", markup=False)
    for warning in matrix.warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False)


def _write_page(matrix: DomainMatrix, runs: Mapping[str, EvaluatedRun], worst: list[WorstImage], path: Path) -> None:
    if len(runs) > 1:
        write_matrix_html(matrix, path, "Runs across domains", worst)
        return
    only = next(iter(runs.values()))
    metrics = only.path / "metrics.csv"
    title = f"{only.path.name} across domains"
    further = further_sections(matrix, worst)
    write_html(matrix.tables[matrix.runs[0]], path, title, metrics if metrics.exists() else None, further)
