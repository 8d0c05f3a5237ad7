"""What a recipe may name: every part of a seam, with the first paragraph of its documentation and its options."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

from queryseg import contracts
from queryseg.cli.output import console, write_json
from queryseg.errors import UsageError
from queryseg.recipe_file import options_of
from queryseg.spelling import did_you_mean

SEAMS: dict[str, tuple[str, type[contracts.Part]]] = {
    "backbones": ("queryseg.backbones", contracts.Backbone),
    "adapters": ("queryseg.adapters", contracts.Adapter),
    "pixel_decoders": ("queryseg.pixel_decoders", contracts.PixelDecoder),
    "queries": ("queryseg.queries", contracts.QuerySource),
    "decoders": ("queryseg.decoders", contracts.Decoder),
    "heads": ("queryseg.decoders", contracts.Heads),
    "objectives": ("queryseg.objectives", contracts.Objective),
    "readouts": ("queryseg.readouts", contracts.Readout),
}


def find_parts(seam: str) -> dict[str, type[contracts.Part]]:
    """Dotted path → class, of all that can be built; base classes of others are left out, unless the package offers
    them by name."""
    package_name, kind = SEAMS[seam]
    package = importlib.import_module(package_name)
    found = {}
    for module_info in pkgutil.iter_modules(package.__path__, f"{package_name}."):
        module = importlib.import_module(module_info.name)
        for name, value in vars(module).items():
            own = isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
            if own and issubclass(value, kind) and not inspect.isabstract(value):
                found[f"{module.__name__}.{name}"] = value
    offered = {getattr(package, name) for name in getattr(package, "__all__", ())}
    bases = {base for part in found.values() for base in part.__mro__[1:]} - offered
    return {path: part for path, part in found.items() if part not in bases}


def describe(path: str, part: type[contracts.Part]) -> dict[str, Any]:
    """What `queryseg list` says of one part."""
    options = {
        name: None if parameter.default is parameter.empty else _shown(parameter.default)
        for name, parameter in options_of(part).items()
    }
    documentation = (inspect.getdoc(part) or "").splitlines()
    first = " ".join(documentation[: documentation.index("")] if "" in documentation else documentation)
    return {
        "class_path": path,
        "summary": first,
        "options": options,
        "provides": sorted(part.provides),
        "requires": sorted(part.requires),
    }


def _shown(default: Any) -> str:
    return str(getattr(default, "__name__", "a recipe's part")).strip("<>") if callable(default) else repr(default)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A seam, or none for all."""
    parser.add_argument("seam", nargs="?", help=f"one of {', '.join(SEAMS)}; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the list here")


def run(options: argparse.Namespace) -> int:
    """Print the parts of one seam, or of all."""
    if options.seam is not None and options.seam not in SEAMS:
        raise UsageError(f"There is no seam '{options.seam}'.{did_you_mean(options.seam, SEAMS)}")
    seams = [options.seam] if options.seam else list(SEAMS)
    listing = {seam: [describe(p, c) for p, c in find_parts(seam).items()] for seam in seams}
    for seam, parts in listing.items():
        console.print(f"[bold]{seam}[/bold]")
        for part in parts:
            settings = ", ".join(n if d is None else f"{n}={d}" for n, d in part["options"].items())
            console.print(
                f"  [green]{part['class_path']}[/green]\n    {part['summary']}\n    ({settings})", soft_wrap=True
            )
    write_json(options.json, listing)
    return 0
