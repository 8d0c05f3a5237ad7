"""What verbs ask for that load a run, and what they say of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.output import console
from queryseg.inference.run_folder import read_base


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Whose code to trust, and an adapter's base."""
    parser.add_argument(
        "--allow-code", action="append", default=[], metavar="PACKAGE", help="trust this package's parts"
    )
    add_base_option(parser)


def add_base_option(parser: argparse.ArgumentParser) -> None:
    """For runs of adapters."""
    parser.add_argument(
        "--base",
        type=Path,
        metavar="FILE",
        help="where the weights are that the run's adapter was trained on (default: where they were then)",
    )


def tell_base(run: Path) -> None:
    """Print which weights a run's adapter was trained on, if the run does not store them."""
    if (base := read_base(run)) is not None:
        console.print(f"Base of the adapter: {base}", soft_wrap=True)
