"""Turn a published checkpoint of another code base into a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.output import console, make_folder, write_json
from queryseg.conversion import FORMATS, PublishedCheckpoint, convert_checkpoint
from queryseg.data.class_table import class_table
from queryseg.errors import InputError
from queryseg.inference.predictor import recorded_protocol, recorded_task
from queryseg.inference.run_folder import MODEL, RECIPE, write_model, write_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A checkpoint, a folder."""
    known = "; ".join(FORMATS)
    parser.add_argument("source", type=Path, help=f"a weight file, or a folder with config.json and weights: {known}")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new run")
    parser.add_argument(
        "--classes", metavar="TABLE", help="a class table, e.g. cityscapes, in place of the names in the checkpoint"
    )
    parser.add_argument(
        "--things", nargs="+", metavar="CLASS", help="countable classes, for panoptic and instance segmentation"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="what became of every tensor, for machines")


def run(options: argparse.Namespace) -> int:
    """Write recipe.yaml and model.safetensors, and say what they hold."""
    if any((options.out / name).exists() for name in (RECIPE, MODEL)):
        raise InputError(f"{options.out} already holds a model; choose another folder with --out.")
    converted = convert_checkpoint(PublishedCheckpoint.read(options.source))
    recipe, table = converted.recipe, class_table(converted.recipe["classes"])
    if options.classes is not None:
        chosen = class_table(options.classes)
        if len(chosen) != len(table):
            raise InputError(
                f"Class table '{options.classes}' has {len(chosen)} classes, but {options.source} has {len(table)}; "
                "leave --classes out, or choose another table."
            )
        recipe, table = {**recipe, "classes": options.classes}, chosen
    if options.things is not None:
        recipe = {**recipe, "classes": {**table.to_json(), "things": options.things}}
        table = class_table(recipe["classes"])
    names = list(table.names)
    out = make_folder(options.out)
    write_model(out, converted.weights)
    write_recipe(out, recipe)
    backbone = recipe["model"]["backbone"]
    left_over = ", ".join(converted.left_over) or "nothing"
    lines = [
        f"{recipe['model']['decoder']['class_path']} on {backbone['class_path']} {backbone['init_args']['name']}",
        f"{len(converted.weights)} tensors matched; left over: {left_over}",
        f"{len(names)} classes: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}",
        f"{len(table.things)} of them are things; predicts {recorded_task(recipe)} unless --task says otherwise",
        f"shown to it: {recorded_protocol(recipe)}",
        f"Go on with `queryseg predict {out} IMAGES --out predictions` or `queryseg evaluate {out} --data DATA.yaml`.",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    write_json(
        options.json,
        {"run": str(out), "classes": names, "matched": sorted(converted.weights), "left_over": converted.left_over},
    )
    return 0
