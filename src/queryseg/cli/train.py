"""Train a recipe into a run folder. Any setting can follow as --key.of.setting VALUE, e.g. --training.steps 1000."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from queryseg.cli.output import console, write_json
from queryseg.continual.continual_run import train_continually
from queryseg.continual.order_table import OrderTable
from queryseg.errors import UsageError
from queryseg.recipe_file import Resolved, build, read_recipe, resolve
from queryseg.training.checkpoint import CHECKPOINT
from queryseg.training.launch import train
from queryseg.training.loading import check_sources
from queryseg.training.sweep import read_sweep, train_sweep

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A recipe, a folder, and how to begin."""
    parser.add_argument("recipe", metavar="RECIPE.yaml")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in --out, exactly")
    parser.add_argument("--start-from", type=Path, metavar="RUN", help="begin with the weights of another run that fit")
    parser.add_argument(
        "--fork", type=Path, metavar="RUN", help="go on from another run's last step in --out, with other objectives"
    )
    parser.add_argument("--until", type=int, metavar="STEP", help="stop after this step, saved, to resume or to fork")
    parser.add_argument("--sweep", type=Path, metavar="SWEEP.yaml", help="train its arms into --out; again: continue")
    steps = parser.add_argument_group("continual recipes, which learn classes step by step")
    steps.add_argument("--steps", type=step_range, metavar="A..B", help="only these steps; the one before is complete")
    steps.add_argument("--order", metavar="ORDER", help="of the classes: table, random (drawn by --seed), or a list")
    steps.add_argument(
        "--orders", type=step_range, metavar="A..B", help="whole runs in the orders drawn by these seeds"
    )
    steps.add_argument("--first-step", type=Path, metavar="RUN", help="a run that takes the place of the first step")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--devices", type=int, default=1, help="processes that train together (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the result for machines")


def run(options: argparse.Namespace) -> int:
    """Read, check, build, train."""
    sys.path.insert(0, str(Path.cwd()))  # parts of one's own may lie beside the recipe
    if options.sweep is not None:
        return _sweep(options)
    ordered = [] if options.order is None else ["--continual.order", options.order]
    content = read_recipe(options.recipe, options.overrides)
    if content.get("continual") is None and any((options.steps, options.order, options.orders, options.first_step)):
        raise UsageError(
            "--steps, --order, --orders and --first-step are for recipes that learn classes step by step, and "
            f"{options.recipe} has no section 'continual'; leave them out."
        )
    resolved = resolve(read_recipe(options.recipe, [*options.overrides, *ordered]))
    check_sources(resolved["data"])
    if resolved["continual"] is not None:
        return _continual(options, resolved) if options.orders is None else _orders(options)
    result = train(
        build(resolved),
        resolved,
        options.out,
        resume=options.resume,
        start_from=options.start_from,
        fork=options.fork,
        until=options.until,
        accelerator=options.accelerator,
        devices=options.devices,
        console=console,
    )
    console.print(f"The run is in {result.folder}.", soft_wrap=True)
    write_json(options.json, {"folder": str(result.folder), "steps": result.steps, "mean_iou": result.mean_iou})
    return 0


def step_range(text: str) -> tuple[int, int]:
    """ "3..5" → (3, 5); "3" → (3, 3)."""
    first, dots, last = text.partition("..")
    try:
        found = int(first), int(last if dots else first)
    except ValueError:
        found = 1, 0
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"'{text}' is no range; write it as 3..5")
    return found


def _continual(options: argparse.Namespace, resolved: Resolved) -> int:
    if options.fork or options.until:
        raise UsageError("--fork and --until are for single runs; a continual run takes --steps A..B and --resume.")
    table = train_continually(
        resolved,
        options.out,
        resume=options.resume,
        steps=options.steps,
        first_step=options.first_step,
        start_from=options.start_from,
        accelerator=options.accelerator,
        devices=options.devices,
        console=console,
    )
    console.print(f"The runs of {len(table.steps)} steps and continual.html are in {options.out}.", soft_wrap=True)
    write_json(options.json, {"folder": str(options.out), **table.to_json()})
    return 0


def _orders(options: argparse.Namespace) -> int:
    """Every order in a folder of its own; complete ones are skipped, interrupted ones go on."""
    if options.order or options.steps or options.first_step or options.fork or options.until or options.devices != 1:
        raise UsageError(
            "--orders trains whole runs on one device, each from its first step on; leave out --order, --steps, "
            "--first-step, --fork, --until and --devices."
        )
    tables = {}
    for seed in range(options.orders[0], options.orders[1] + 1):
        drawn = ["--continual.order", "random", "--continual.order_seed", str(seed)]
        resolved = resolve(read_recipe(options.recipe, [*options.overrides, *drawn]))
        out = options.out / f"order_{seed}"
        console.print(f"Order {seed}", markup=False)
        begun = (out / "step_1" / CHECKPOINT).exists()
        tables[seed] = train_continually(
            resolved,
            out,
            resume=begun,
            start_from=None if begun else options.start_from,
            accelerator=options.accelerator,
            console=console,
        )
        table = OrderTable(tables)
        table.write(options.out)
    for grid in table.grids():
        console.print(grid)
    write_json(options.json, table.to_json())
    return 0


def _sweep(options: argparse.Namespace) -> int:
    if options.resume or options.fork or options.until or options.devices != 1:
        raise UsageError(
            "--sweep trains whole runs on one device and resumes by itself; leave out --resume, --fork, --until and "
            "--devices."
        )
    sweep = read_sweep(options.sweep)
    console.print(f"Checking {len(sweep.arms)} arms.")
    runs = sweep.plan(options.recipe, options.overrides, options.out)
    try:
        train_sweep(sweep, runs, options.out, options.start_from, options.accelerator, console)
    finally:
        write_json(options.json, sweep.table(runs).to_json())
    return 0
