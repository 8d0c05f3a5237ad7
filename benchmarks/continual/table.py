"""Does SimCIS forget less? Trains every arm class by class, in several orders of the classes, and prints the tables.

    python benchmarks/continual/table.py --work runs/continual [--camvid DATA] [--jobs 2]
    python benchmarks/continual/table.py --print

Each finished run appends one row to benchmarks/results/continual.jsonl; runs whose row is there are skipped, and an
interrupted one goes on inside of its step: the same command continues. One thread per run; arms of one architecture
share their first step, and joint training is one run for all orders. All begin with the small trunk that
benchmarks/generalization/pretrain.py wrote into the folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from continual_arms import ROOT, Run, all_runs
from continual_summary import RESULTS, summary
from continual_training import go_on, make_ready, resolved_recipe
from rich.console import Console

from queryseg.continual.continual_plan import ContinualPlan
from queryseg.continual.continual_run import ContinualRun
from queryseg.continual.continual_table import ContinualTable
from queryseg.host_memory import keep_freed_memory

sys.path.append(str(Path(__file__).parents[1]))
from chained_runs import append_row, read_rows, rounded, table_parser, train_missing


def train_and_test(run: Run, work: Path, camvid: Path | None) -> dict[str, Any]:
    """A row."""
    keep_freed_memory()
    torch.set_num_threads(1)
    start = time.perf_counter()
    if run.joint:
        go_on(run.shared, work, camvid)
        plan = ContinualPlan.of(resolved_recipe(run, work, camvid), work / run.shared.name)
        table = ContinualRun(plan, Console(quiet=True)).table()
    else:
        table = go_on(run, work, camvid)
    minutes = round((time.perf_counter() - start) / 60, 1)
    return {
        "run": run.name,
        "setting": run.setting,
        "arm": run.arm,
        "order": run.order,
        "steps": [[table.classes.names[label] for label in labels] for labels in table.split.steps],
        "scores": scores_of(table),
        "memory_bytes": dict(table.steps[-1].memory),
        "minutes": minutes,
    }


def scores_of(table: ContinualTable) -> dict[str, dict[str, Any]]:
    """Measure → groups after the last step, the mean over steps of all seen classes, the forgetting matrix."""
    name = table.data_names[0]
    found: dict[str, dict[str, Any]] = {}
    for measure in table.measures:
        groups = table.group_scores(table.steps[-1], name, measure)
        matrix = table.forgetting_matrix(name, measure)
        found[measure] = {group: rounded(value) for group, value in groups.items()}
        found[measure] |= {
            "average": rounded(table.average(name, measure)),
            "forgetting_matrix": [[rounded(value) for value in row] for row in matrix],
        }
    return found


def run_one(name: str, work: Path, camvid: Path | None) -> None:
    """A run in a process of its own."""
    run = next(run for run in all_runs() if run.name == name)
    append_row(RESULTS, train_and_test(run, work, camvid))


def run_all(args: argparse.Namespace) -> None:
    """What is missing, some at a time; those that share what is trained first follow each other."""
    make_ready(args.work)
    runs = [run for run in all_runs() if args.camvid or not run.setting.startswith("camvid")]
    done = {row["run"] for row in read_rows(RESULTS)}
    train_missing(__file__, {run.name: run.shared.name for run in runs}, done, args)


def main() -> None:
    """Run what is missing; print."""
    parser = table_parser(__doc__, ROOT / "runs" / "continual", "day/train, day/val", "streets_11-2_panoptic/")
    args = parser.parse_args()
    if args.run:
        run_one(args.run, args.work, args.camvid)
        return
    if not args.print:
        run_all(args)
    print(summary(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
