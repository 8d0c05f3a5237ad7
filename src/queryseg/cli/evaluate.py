"""Compare a run with labelled data sets: mIoU per domain and class, under one stated protocol."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.evaluation_options import add_evaluation_options, chosen_protocol, named_sources
from queryseg.cli.output import console, progress_bar, write_json
from queryseg.data.data_file import open_data
from queryseg.evaluation.domain_table import RunFacts, evaluate_many
from queryseg.evaluation.report import write_html
from queryseg.inference.predictor import find_device, recorded_protocol
from queryseg.inference.run_folder import read_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, data sets, and how to show the result."""
    parser.add_argument("run", type=Path, help="folder of a run")
    add_evaluation_options(parser)
    parser.add_argument(
        "--seen", nargs="*", metavar="NAME", help="data sets of the training domain (default: the first one)"
    )
    parser.add_argument("--num-examples", type=int, default=4, metavar="N", help="pictures per data set in the report")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table for machines")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a self-contained report with pictures")


def run(options: argparse.Namespace) -> int:
    """Print the table; write JSON and HTML on request."""
    sources = named_sources(options.data)
    datasets = {name: open_data(path) for name, path in sources.items()}
    loaded = read_model(options.run, options.allow_code)
    with progress_bar("evaluating") as progress:
        table = evaluate_many(
            loaded.model,
            datasets,
            chosen_protocol(options, recorded_protocol(loaded.recipe)),
            seen=options.seen,
            facts=RunFacts.of(loaded.model, loaded.folder, loaded.recipe),
            sources=sources,
            device=find_device(options.device),
            num_workers=options.workers,
            num_examples=options.num_examples if options.html else 0,
            progress=progress,
        )
    console.print(table)
    write_json(options.json, table.to_json())
    if options.html:
        metrics = loaded.folder / "metrics.csv"
        write_html(table, options.html, f"{loaded.folder.name} across domains", metrics if metrics.exists() else None)
        console.print(f"Report: {options.html}", soft_wrap=True)
    return 0
