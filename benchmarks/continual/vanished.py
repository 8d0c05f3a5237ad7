"""Are objects remembered that no image of a later step shows?

    python benchmarks/continual/vanished.py --work runs/continual [--jobs 2]
    python benchmarks/continual/vanished.py --print

On streets, images of later steps are full of earlier classes, and pseudo-labels rehearse them. Here the arms go on from
the same first steps as in table.py, which teach bus and train, once with the images of the table ("shown") and once
with as many that show neither ("gone"). Each finished run appends one row to benchmarks/results/vanished.jsonl; runs
whose row is there are skipped, and an interrupted one goes on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from continual_arms import MAIN, ROOT, Run
from continual_training import go_on, make_ready, resolved_recipe, train_steps, write_streets
from vanished_summary import COMPARED, IMAGES, LABELS, MEASURES, RESULTS, VANISHED, vanished_table

from queryseg.continual.continual_table import ContinualTable
from queryseg.host_memory import keep_freed_memory
from queryseg.recipe_file import Resolved, resolve

sys.path.append(str(Path(__file__).parents[1]))
from chained_runs import append_row, read_rows, table_parser, train_chains

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

    def recipe(self, work: Path) -> Resolved:
        """Where they do, it is the table's own run."""
        resolved = resolved_recipe(self.run, work)
        if self.images == "gone":
            streets = {"layout": "class_subset", "data": str(streets_file(work)), "without": LABELS}
            resolved["data"]["train"] = streets
        return resolve(resolved)

    def train(self, work: Path) -> dict[str, Any]:
        """A row."""
        first_step = work / self.run.shared.name / "step_1"
        go_on(self.run.shared, work, None, steps=(1, 1))
        if self.images == "shown":
            table = go_on(self.run, work, None, first_step=first_step)
        else:
            table = train_steps(self.recipe(work), work / "vanished" / self.name, first_step=first_step)
        return {"run": self.name, "arm": self.run.arm, "order": self.run.order, "images": self.images, **scores(table)}


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
            cls: [round(of_classes[label], 5) for of_classes in values]
            for cls, label in zip(VANISHED, LABELS, strict=True)
        } | {group: round(groups[group], 5) for group in ("base", "all")}
    return found


def all_runs() -> list[Later]:
    """Chains that share a first step follow each other."""
    return [Later(Run(MAIN, arm, order), images) for order in ORDERS for arm in COMPARED for images in reversed(IMAGES)]


def run_all(work: Path, jobs: int, only: str) -> None:
    """What is missing, `jobs` at a time."""
    done = {row["run"] for row in read_rows(RESULTS)}
    chains: dict[str, list[str]] = {}
    for later in all_runs():
        if later.name not in done and later.name.startswith(only):
            chains.setdefault(later.run.shared.name, []).append(later.name)
    make_ready(work)
    streets_file(work)
    train_chains(__file__, list(chains.values()), work, None, jobs)


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
        run_all(args.work, args.jobs, args.only)
    print(vanished_table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
