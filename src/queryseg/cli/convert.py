"""Turn a published checkpoint of another code base into a run, or the weights of a backbone into a file for recipes."""

from __future__ import annotations

import argparse
import importlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from queryseg.backbones.weights import WeightReport
from queryseg.cli.output import console, make_folder, write_json
from queryseg.conversion import FORMATS, Converted, PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.backbone_file import BACKBONES, BackboneFile, recognise_backbone
from queryseg.conversion.converted import answerable, known_classes, run_recipe
from queryseg.conversion.pickled_bank import read_pickled_bank
from queryseg.data.class_table import ClassTable, class_table
from queryseg.errors import InputError, UsageError
from queryseg.inference.predictor import recorded_protocol, recorded_task
from queryseg.inference.run_folder import MODEL, RECIPE, replace_file, write_model, write_recipe
from queryseg.inference.text_prompt import TEXT_PROMPT
from queryseg.objectives.query_bank import BANK_FILE, QueryBank
from queryseg.spelling import first_of

BACKBONE = "backbone.safetensors"
BACKBONE_RECIPE = "backbone.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A checkpoint, a folder."""
    parser.add_argument(
        "source", type=Path, nargs="?", help="a weight file, or a folder with config.json and weights; see --list"
    )
    parser.add_argument("--list", action="store_true", help="tell which layouts are known, and where they were read")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the new run")
    parser.add_argument(
        "--classes",
        metavar="TABLE",
        help="a class table, e.g. cityscapes, or names with commas between them, in place of those in the checkpoint",
    )
    parser.add_argument(
        "--base", type=Path, metavar="FILE", help="the backbone's weights, for adapters that are published without them"
    )
    parser.add_argument(
        "--things", nargs="+", metavar="CLASS", help="countable classes, for panoptic and instance segmentation"
    )
    parser.add_argument(
        "--bank",
        type=Path,
        metavar="FILE",
        help="SimCIS's virtual queries (fake_query.pkl), which then go with the run",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="what became of every tensor, for machines")


def run(options: argparse.Namespace) -> int:
    """Write recipe.yaml and model.safetensors, and say what they hold."""
    if options.list:
        return _list(options.json)
    if options.source is None or options.out is None:
        raise UsageError("Give a checkpoint and --out DIR, or --list alone.")
    if any((options.out / name).exists() for name in (RECIPE, MODEL, BACKBONE)):
        raise InputError(f"{options.out} already holds a model; choose another folder with --out.")
    checkpoint = PublishedCheckpoint.read(options.source)
    backbone = None if checkpoint.config else recognise_backbone(checkpoint.tensors, checkpoint.kind)
    if backbone is not None and not any(form.recognises(checkpoint.tensors, checkpoint.config) for form in FORMATS):
        return _convert_backbone(backbone, checkpoint, options)
    return _convert_model(checkpoint, options)


def _convert_model(checkpoint: PublishedCheckpoint, options: argparse.Namespace) -> int:
    converted = convert_checkpoint(checkpoint, options.base)
    recipe = _with_classes(converted, options)
    table = class_table(recipe["classes"])
    bank = _read_bank(converted, options)
    out = make_folder(options.out)
    if bank is not None:
        bank.write(out / BANK_FILE, table.names)
    if converted.aside:
        write_model(out, dict(converted.aside), TEXT_PROMPT)
    write_model(out, converted.weights)
    write_recipe(out, recipe)
    backbone = recipe["model"]["backbone"]
    told = "" if options.classes or checkpoint.config.get("id2label") else f" ({table.name}, by their number)"
    _print(
        f"{options.source} ({checkpoint.kind}) is {converted.layout}{'' if converted.verified else ', unverified'}",
        f"{recipe['model']['decoder']['class_path']} on {backbone['class_path']} {backbone['init_args']['name']}",
        f"{len(converted.weights)} tensors matched; left over: {_summed(converted.left_over) or 'nothing'}",
        *([f"unexpected: {', '.join(converted.unexpected)}"] if converted.unexpected else []),
        *_not_read(checkpoint),
        *([f"not in the weights, taken as published: {', '.join(converted.assumed)}"] if converted.assumed else []),
        *([] if bank is None else [_told_of(bank, table)]),
        f"{len(table)} classes: {first_of(table.names, 4)}{told}",
        f"{len(table.things)} of them are things; predicts {recorded_task(recipe)} unless --task says otherwise",
        f"shown to it: {recorded_protocol(recipe)}",
        f"Go on with `queryseg predict {out} IMAGES --out predictions` or `queryseg evaluate {out} --data DATA.yaml`.",
    )
    account = {
        "run": str(out),
        "layout": converted.layout,
        "verified": converted.verified,
        "classes": table.names,
        "matched": sorted(converted.weights),
        "left_over": converted.left_over,
        "unexpected": converted.unexpected,
        "assumed": converted.assumed,
        "virtual_queries": None if bank is None else bank.counts.tolist(),
        "not_tensors": checkpoint.others,
        "not_imported": checkpoint.foreign,
    }
    write_json(options.json, account)
    return 0


def _read_bank(converted: Converted, options: argparse.Namespace) -> QueryBank | None:
    """Raises: UsageError, CheckpointError"""
    if options.bank is None:
        return None
    queries = converted.recipe["model"]["queries"]
    if not isinstance(queries, dict) or queries["class_path"] != "queryseg.queries.PixelSelectedQueries":
        raise UsageError(
            f"--bank is for SimCIS, but {options.source} is {converted.layout}; leave --bank {options.bank} out."
        )
    num_classes, width = converted.weights["decoder.heads.class_embed.weight"].shape
    return read_pickled_bank(options.bank, num_classes, width)


def _told_of(bank: QueryBank, table: ClassTable) -> str:
    counts = bank.counts
    return f"{int(counts.sum())} virtual queries of {int((counts > 0).sum())} of {len(table)} classes: {BANK_FILE}"


def _summed(names: Sequence[str]) -> str:
    """Names, of which those of one module stand together where there are many."""
    if len(names) <= 12:
        return ", ".join(names)
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(module if count == 1 else f"{module}.* ({count})" for module, count in counts.items())


def _with_classes(converted: Converted, options: argparse.Namespace) -> dict[str, Any]:
    """The recipe with the classes, things and task (which follows the classes' names) that were asked for.

    Raises: InputError
    """
    recipe, given = converted.recipe, options.classes
    table = class_table(recipe["classes"])
    if given is not None:
        chosen = class_table([name.strip() for name in given.split(",")] if "," in given else given)
        if len(chosen) != len(table):
            raise InputError(
                f"--classes {given} has {len(chosen)} classes, but {options.source} has {len(table)}; leave --classes "
                "out, or choose another table."
            )
        if converted.aside and chosen.names != table.names:
            raise InputError(
                f"The queries of {options.source} are texts of its own class names; leave --classes out, and ask the "
                "run for other classes where it predicts: `queryseg predict RUN SOURCE --classes …`."
            )
        classes, task = known_classes({"id2label": dict(enumerate(chosen.names))}, len(chosen))
        protocol = recipe.get("data", {}).get("protocol")
        recipe = run_recipe(recipe["model"], classes if "," in given else given, task, protocol)
        table = class_table(recipe["classes"])
    elif converted.unnamed:
        raise InputError(
            f"{options.source} has {len(table)} classes and does not say what they are; name them with --classes, a "
            "table (e.g. cityscapes) or names with commas between them."
        )
    if options.things is not None:
        recipe = {**recipe, "classes": {**table.to_json(), "things": options.things}}
    if converted.task is None:
        class_table(recipe["classes"])  # raises
        return recipe
    task = answerable(converted.task, recipe["classes"])
    return run_recipe(recipe["model"], recipe["classes"], task, recipe["data"].get("protocol"))


def _convert_backbone(backbone: BackboneFile, checkpoint: PublishedCheckpoint, options: argparse.Namespace) -> int:
    """Weights alone: a safetensors file under the names of its authors, which recipes read, and how they name it.

    Raises: UsageError for options about models
    """
    given = [f"--{name}" for name in ("classes", "things", "base", "bank") if getattr(options, name) is not None]
    if given:
        raise UsageError(f"{options.source} is {backbone.family}, a backbone alone; leave {' and '.join(given)} out.")
    out = make_folder(options.out)
    write_model(out, {name: value.clone() for name, value in checkpoint.tensors.items()}, BACKBONE)
    try:
        report = _load(backbone, out)
    except ValueError:
        (out / BACKBONE).unlink()
        raise
    recipe = yaml.safe_dump(backbone.recipe(out / BACKBONE), sort_keys=False)
    replace_file(out / BACKBONE_RECIPE, recipe.encode())
    _print(
        f"{options.source} ({checkpoint.kind}) is {backbone.family}, a backbone alone: {backbone.arguments['name']}",
        *report.lines()[:12],
        *_not_read(checkpoint),
        f"A recipe names it as {out / BACKBONE_RECIPE} does.",
    )
    account = {"backbone": str(out / BACKBONE), "family": backbone.family, **backbone.arguments}
    write_json(options.json, {**account, "left_over": report.left_over, "not_imported": checkpoint.foreign})
    return 0


def _load(backbone: BackboneFile, out: Path) -> WeightReport:
    """Build the backbone, which compares every tensor. Raises: CheckpointError"""
    package, _, name = backbone.class_path.rpartition(".")
    built = getattr(importlib.import_module(package), name)(**backbone.arguments, pretrained=str(out / BACKBONE))
    report: WeightReport = built.weight_report
    return report


def _not_read(checkpoint: PublishedCheckpoint) -> list[str]:
    lines = []
    if checkpoint.others:
        lines.append(f"not tensors: {', '.join(checkpoint.others)}")
    if checkpoint.foreign:
        lines.append(f"named in the file and not imported: {', '.join(checkpoint.foreign)}")
    return lines


def _list(file: Path | None) -> int:
    rows = [
        {
            "title": form.title,
            "converts": form.to_run is not None,
            "obstacle": form.obstacle,
            "verified": form.verified,
            "source": form.source,
        }
        for form in FORMATS
    ]
    for row in rows:
        state = "converts" if row["converts"] else f"recognised; {row['obstacle']}"
        _print(f"{row['title']}: {state}", f"    {'verified' if row['verified'] else 'unverified'}: {row['source']}")
    for family, whose in BACKBONES.items():
        _print(f"{family}, a backbone alone: converts", f"    verified: {whose}; by timm's converters")
    write_json(file, {"formats": rows, "backbones": BACKBONES})
    return 0


def _print(*lines: str) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
