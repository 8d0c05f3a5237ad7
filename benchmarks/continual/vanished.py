"""Are objects remembered that no image of a later step shows?

    python benchmarks/continual/vanished.py --work runs/continual [--jobs 2]
    python benchmarks/continual/vanished.py --print

On streets, images of later steps are full of earlier classes, and pseudo-labels rehearse them. Here the arms go on from
the same first steps as in table.py, which teach bus and train, once with the images of the table ("shown") and once
with as many that show neither ("gone"). Each finished run appends one row to benchmarks/results/vanished.jsonl; runs
whose row is there are skipped, and an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from continual_arms import MAIN, ROOT, Run
from continual_training import first_step, go_on, make_ready, resolved_recipe, train_steps, write_streets
from vanished_summary import COMPARED, IMAGES, LABELS, RESULTS, VANISHED, vanished_table

from queryseg.continual.continual_table import ContinualTable
from queryseg.continual.step_scores import MEASURES
from queryseg.host_memory import keep_freed_memory
from queryseg.recipe_file import Resolved, resolve

sys.path.append(str(Path(__file__).parents[1]))
from chained_runs import append_row, read_rows, rounded, table_parser, train_missing

ORDERS = (2, 1)
"""Of the three those whose first step teaches both."""
NUM_RENDERED = 1230
"""Of which 300 show neither bus nor train, as many as the table's arms train on."""


@dataclass(frozen=True)
class Later:
    """An arm whose later images show buses and trains, or do not."""

    run: Run
    images: str

    @property
    def name(self) -> str:
        return f"{self.images}/{self.run.arm}/order_{self.run.order}"

    def train(self, work: Path) -> dict[str, Any]:
        """A row. Shown, it is the table's own run."""
        if self.images == "shown":
            table = go_on(self.run, work)
        else:
            out = work / "vanished" / self.name
            table = train_steps(without_vanished(self.run, work), out, first_step=first_step(self.run, work))
        return {"run": self.name, "arm": self.run.arm, "order": self.run.order, "images": self.images, **scores(table)}


def without_vanished(run: Run, work: Path) -> Resolved:
    """Its recipe with images that show neither bus nor train."""
    resolved = resolved_recipe(run, work)
    resolved["data"]["train"] = {"layout": "class_subset", "data": str(streets_file(work)), "without": LABELS}
    return resolve(resolved)


def streets_file(work: Path) -> Path:
    return write_streets(work / "many_streets", num_images=NUM_RENDERED)


def scores(table: ContinualTable) -> dict[str, dict[str, Any]]:
    """Measure → the vanished classes after every step, and base and all classes after the last one."""
    name = table.data_names[0]
    found: dict[str, dict[str, Any]] = {}
    for measure in MEASURES:
        values = [step.scores[name][measure] for step in table.steps]
        groups = table.group_scores(table.steps[-1], name, measure)
        found[measure] = {
            cls: [rounded(of_classes[label]) for of_classes in values]
            for cls, label in zip(VANISHED, LABELS, strict=True)
        } | {group: rounded(groups[group]) for group in ("base", "all")}
    return found


def all_runs() -> list[Later]:
    """Chains that share a first step follow each other."""
    return [Later(Run(MAIN, arm, order), images) for order in ORDERS for arm in COMPARED for images in reversed(IMAGES)]


def run_all(args: argparse.Namespace) -> None:
    """What is missing, some at a time."""
    make_ready(args.work)
    streets_file(args.work)
    done = {row["run"] for row in read_rows(RESULTS)}
    train_missing(__file__, {later.name: later.run.shared.name for later in all_runs()}, done, args)


def main() -> None:
    """Run what is missing; print."""
    parser = table_parser(__doc__, ROOT / "runs" / "continual", "not needed", "gone/simcis")
    args = parser.parse_args()
    if args.run:
        keep_freed_memory()
        torch.set_num_threads(1)
        append_row(RESULTS, next(later for later in all_runs() if later.name == args.run).train(args.work))
        return
    if not args.print:
        run_all(args)
    print(vanished_table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
