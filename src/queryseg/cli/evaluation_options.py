"""What every verb that shows labelled data sets to runs asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from queryseg.data.protocol import PRESETS, Protocol, ProtocolPreset, find_preset
from queryseg.errors import UsageError


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Data sets, protocol, device."""
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="NAME=DATA.yaml", help="one or many; without NAME the file's stem"
    )
    parser.add_argument("--protocol", metavar="NAME", help=f"a protocol of the field: {', '.join(PRESETS)}")
    add_protocol_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default auto)")
    parser.add_argument("--workers", type=int, default=2, help="reading processes (default 2)")
    parser.add_argument(
        "--allow-code", action="append", default=[], metavar="PACKAGE", help="trust this package's parts"
    )


def add_protocol_options(parser: argparse.ArgumentParser) -> None:
    """How images are shown, where it differs from what the run was validated with."""
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="resize images before the model sees them")
    parser.add_argument("--window", type=int, metavar="PIXELS", help="sliding windows of this side; 0: whole images")
    parser.add_argument("--stride", type=int, default=341, metavar="PIXELS", help="of the windows (default 341)")
    parser.add_argument("--flip", action="store_true", help="average the scores of the image and its mirror image")
    parser.add_argument("--scales", metavar="0.75,1,1.25", help="average the scores of the image at several sizes")


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


def chosen_protocol(options: argparse.Namespace, recorded: Protocol) -> Protocol | ProtocolPreset:
    """A preset if one is named; else what the run was validated with, unless the command line says otherwise.

    Raises: RecipeError, UsageError
    """
    scales = _scales(options.scales)
    if options.protocol is not None:
        if options.short_side is not None or options.window is not None:
            raise UsageError(f"--protocol {options.protocol} decides sizes; leave out --short-side and --window.")
        return find_preset(options.protocol).in_views(options.flip, scales or (1.0,))
    return changed_protocol(options, recorded)


def changed_protocol(options: argparse.Namespace, recorded: Protocol) -> Protocol:
    """What the run was validated with, unless the command line says otherwise. Raises: RecipeError, UsageError"""
    protocol, scales = recorded, _scales(options.scales)
    if options.short_side is not None:
        protocol = replace(protocol, short_side=options.short_side, fit=None, name="")
    if options.window is not None:
        protocol = replace(protocol, window=options.window or None, stride=options.stride, name="")
    if options.flip:
        protocol = replace(protocol, flip=True)
    return protocol if scales is None else replace(protocol, scales=scales)


def _scales(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(
            f"--scales is '{text}', but takes numbers with commas between them, as in 0.75,1,1.25."
        ) from None
