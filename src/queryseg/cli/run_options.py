"""What verbs ask for that load a run, and what they say of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.output import console
from queryseg.data.class_table import table_names
from queryseg.inference.run_folder import read_base
from queryseg.inference.vocabulary import Vocabulary


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


def add_class_options(parser: argparse.ArgumentParser) -> None:
    """Other classes for runs whose queries are texts."""
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="other classes than those of training, for runs whose queries are texts (tqdm): names with commas between "
        "them, or a class table such as cityscapes",
    )
    parser.add_argument(
        "--text-tower",
        type=Path,
        metavar="FILE",
        help="weights of the text encoder that reads new class names (default: what the run's recipe says)",
    )


def asked_classes(options: argparse.Namespace) -> str | list[str] | None:
    """What --classes names: a table, or names in label order."""
    if options.classes is None:
        return None
    names = [name.strip() for name in str(options.classes).split(",")]
    return names[0] if len(names) == 1 and names[0] in table_names() else names


def tell_classes(vocabulary: Vocabulary | None) -> None:
    """Print which classes were trained, if other ones were asked for."""
    if vocabulary is not None:
        console.print(f"Classes: {vocabulary}", soft_wrap=True, markup=False)


def tell_base(run: Path) -> None:
    """Print which weights a run's adapter was trained on, if the run does not store them."""
    if (base := read_base(run)) is not None:
        console.print(f"Base of the adapter: {base}", soft_wrap=True)
