"""What every verb that shows labelled data sets to runs asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from queryseg.data.protocol import Protocol
from queryseg.errors import UsageError


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Data sets, protocol, device."""
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="NAME=DATA.yaml", help="one or many; without NAME the file's stem"
    )
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="resize images before the model sees them")
    parser.add_argument("--window", type=int, metavar="PIXELS", help="sliding windows of this side; 0: whole images")
    parser.add_argument("--stride", type=int, default=341, metavar="PIXELS", help="of the windows (default 341)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default auto)")
    parser.add_argument("--workers", type=int, default=2, help="reading processes (default 2)")
    parser.add_argument(
        "--allow-code", action="append", default=[], metavar="PACKAGE", help="trust this package's parts"
    )


def named_sources(words: Sequence[str]) -> dict[str, str]:
    """NAME=DATA.yaml → name and path, in order. Raises: UsageError"""
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


def chosen_protocol(options: argparse.Namespace, recorded: Protocol) -> Protocol:
    """What the run was validated with, unless the command line says otherwise."""
    protocol = recorded
    if options.short_side is not None:
        protocol = replace(protocol, short_side=options.short_side)
    if options.window is not None:
        protocol = replace(protocol, window=options.window or None, stride=options.stride)
    return protocol
