"""Compare a run with labelled data sets: mIoU per domain and class, under one stated protocol."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.evaluation_options import add_evaluation_options, chosen_protocol, named_sources
from queryseg.cli.output import console, progress_bar, write_json
from queryseg.cli.run_options import add_base_option, tell_base
from queryseg.data.data_file import open_data
from queryseg.data.protocol import Protocol
from queryseg.errors import UsageError
from queryseg.evaluation.domain_table import RunFacts, evaluate_many
from queryseg.evaluation.report import write_html
from queryseg.inference.engine import SegmentationEngine
from queryseg.inference.predictor import find_device, recorded_protocol
from queryseg.inference.run_folder import read_model
from queryseg.loading import is_exported
from queryseg.segmenter import Segmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, data sets, and how to show the result."""
    parser.add_argument("run", type=Path, help="folder of a run, or an exported file")
    add_evaluation_options(parser)
    parser.add_argument(
        "--seen", nargs="*", metavar="NAME", help="data sets of the training domain (default: the first one)"
    )
    parser.add_argument("--num-examples", type=int, default=4, metavar="N", help="pictures per data set in the report")
    add_base_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table for machines")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a self-contained report with pictures")


def run(options: argparse.Namespace) -> int:
    """Print the table; write JSON and HTML on request."""
    sources = named_sources(options.data)
    datasets = {name: open_data(path) for name, path in sources.items()}
    model, recorded, facts = _source(options)
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
            progress=progress,
        )
    console.print(table)
    write_json(options.json, table.to_json())
    if options.html:
        metrics = options.run / "metrics.csv"
        write_html(table, options.html, f"{options.run.name} across domains", metrics if metrics.exists() else None)
        console.print(f"Report: {options.html}", soft_wrap=True)
    return 0


def _source(options: argparse.Namespace) -> tuple[Segmenter | SegmentationEngine, Protocol, RunFacts]:
    """What is evaluated, the protocol that it was validated with, and where it comes from."""
    if not is_exported(options.run):
        loaded = read_model(options.run, options.allow_code, options.base)
        tell_base(options.run)
        facts = RunFacts.of(loaded.model, loaded.folder, loaded.recipe)
        return loaded.model, recorded_protocol(loaded.recipe), facts
    if options.base is not None:
        raise UsageError(f"{options.run} is an exported file, which holds all of its weights; leave --base out.")
    from queryseg.export.exported_engine import check_windows, open_exported

    engine = open_exported(options.run, options.device)
    record = engine.record
    protocol = chosen_protocol(options, record.protocol)
    if protocol.window is not None:
        check_windows(protocol, record)
    said = f"{record.format} file in {record.precision}, made of weights {record.weights[:12]}"
    return engine, record.protocol, RunFacts(str(options.run), None, checkpoint=said, versions=record.versions)
