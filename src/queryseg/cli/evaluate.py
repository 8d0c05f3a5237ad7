"""Compare a run with labelled data sets: mIoU per domain and class, under one stated protocol."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from queryseg.cli.output import console, progress_bar, write_json
from queryseg.data.data_file import open_data
from queryseg.data.protocol import Protocol
from queryseg.errors import UsageError
from queryseg.evaluation.domain_table import RunFacts, evaluate_many
from queryseg.evaluation.report import write_html
from queryseg.inference.predictor import find_device, recorded_protocol
from queryseg.inference.run_folder import read_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, data sets, and how to show the result."""
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="NAME=DATA.yaml", help="one or many; without NAME the file's stem"
    )
    parser.add_argument(
        "--seen", nargs="*", metavar="NAME", help="data sets of the training domain (default: the first one)"
    )
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="resize images before the model sees them")
    parser.add_argument("--window", type=int, metavar="PIXELS", help="sliding windows of this side; 0: whole images")
    parser.add_argument("--stride", type=int, default=341, metavar="PIXELS", help="of the windows (default 341)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default auto)")
    parser.add_argument("--workers", type=int, default=2, help="reading processes (default 2)")
    parser.add_argument("--num-examples", type=int, default=4, metavar="N", help="pictures per data set in the report")
    parser.add_argument(
        "--allow-code", action="append", default=[], metavar="PACKAGE", help="trust this package's parts"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table for machines")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a self-contained report with pictures")


def run(options: argparse.Namespace) -> int:
    """Print the table; write JSON and HTML on request."""
    sources = _named(options.data)
    datasets = {name: open_data(path) for name, path in sources.items()}
    loaded = read_model(options.run, options.allow_code)
    with progress_bar("evaluating") as progress:
        table = evaluate_many(
            loaded.model,
            datasets,
            _protocol(options, recorded_protocol(loaded.recipe)),
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


def _named(words: list[str]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        name, path = (name, path) if equals else (Path(word).stem, word)
        if not name or not path:
            raise UsageError(f"--data takes NAME=DATA.yaml, but given is '{word}'.")
        if name in sources:
            raise UsageError(f"--data names '{name}' twice; give every data set its own name.")
        sources[name] = path
    return sources


def _protocol(options: argparse.Namespace, recorded: Protocol) -> Protocol:
    """What the run was validated with, unless the command line says otherwise."""
    protocol = recorded
    if options.short_side is not None:
        protocol = replace(protocol, short_side=options.short_side)
    if options.window is not None:
        protocol = replace(protocol, window=options.window or None, stride=options.stride)
    return protocol
