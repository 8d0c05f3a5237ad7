"""Does GRQA generalize? Trains every arm on one domain, tests it on domains it has never seen, and prints the tables.

    python benchmarks/generalization/table.py --work runs/generalization [--camvid DATA] [--jobs 2]
    python benchmarks/generalization/table.py --print

Each finished run appends one row to benchmarks/results/generalization.jsonl; runs whose row is there are skipped, and
an interrupted one goes on from its checkpoint: the same command continues. One thread per run; arms that differ in GRQA
alone fork from one first stage per seed. No checkpoint is chosen: the last one is tested.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import torch
from arms import BY_CLASS, ROOT, STAGE_ONE, Run, all_runs
from rich.console import Console
from summary import RESULTS, summary
from torch import Tensor

from queryseg.cli.demo import write_training_streets
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.data.streets import DOMAINS, Streets
from queryseg.evaluation.curve import read_curves
from queryseg.evaluation.diagnostics import diagnose, has_queries
from queryseg.evaluation.evaluation import Evaluation
from queryseg.evaluation.evaluator import evaluate
from queryseg.host_memory import keep_freed_memory
from queryseg.inference.run_folder import read_model
from queryseg.metrics.query_groups import nearest_prototypes
from queryseg.objectives.group_alignment import similarities
from queryseg.recipe_file import build, resolve
from queryseg.training.checkpoint import CHECKPOINT, read_checkpoint
from queryseg.training.launch import train

sys.path.append(str(Path(__file__).parents[1]))
from chained_runs import PRETRAINED, append_row, check_pretrained, read_rows, table_parser, train_missing

EVERY, PROBE = 100, 20
"""Steps between two looks at the groups, and streets that are looked at."""
NUM_IMAGES, TEST_SEED = 100, 2
"""Test streets per domain; their seed is neither that of training (0) nor of validation (1)."""


def prepared(run: Run, work: Path, camvid: Path | None) -> dict[str, Any]:
    """The recipe of a run with its training images on the disk."""
    content = run.content()
    if run.setting == "camvid":
        content["data"]["root"] = str(camvid)
        return content
    content["data"]["train"] = str(work / "streets" / "train_clear.yaml")
    return content


def test_sets(run: Run, content: dict[str, Any]) -> dict[str, SegmentationDataset]:
    """The source domain first."""
    if run.setting == "streets":
        return {domain: Streets(domain, NUM_IMAGES, TEST_SEED, (128, 256)) for domain in DOMAINS}
    root = Path(content["data"]["root"])
    return {name: open_data(source, relative_to=root) for name, source in content["data"]["validate"].items()}


def train_and_test(run: Run, work: Path, camvid: Path | None) -> dict[str, Any]:
    """A row."""
    keep_freed_memory()
    torch.set_num_threads(1)
    start = time.perf_counter()
    content = prepared(run, work, camvid)
    steps = content["training"]["steps"]
    weights = None if run.arm == "scratch" else work / PRETRAINED
    if run.stem is None:
        go_on(content, work / run.name, start_from=weights)
        return measured(run, work / run.name, content) | minutes_since(start)
    first, fork = round(steps * STAGE_ONE), work / "stage_one" / run.stem.name
    go_on(prepared(run.stem, work, camvid), fork, until=first, start_from=weights)
    if run.queries is None:
        go_on(content, work / run.name, fork=fork)
        return measured(run, work / run.name, content) | minutes_since(start)
    groups = [probed_groups(fork, first)]
    for step in range(first + EVERY, steps + 1, EVERY):
        go_on(content, work / run.name, until=step, fork=fork)
        groups.append(probed_groups(work / run.name, step))
    go_on(content, work / run.name, fork=fork)
    regrouped = [float((a != b).float().mean()) for a, b in pairwise(groups)]
    found = {"regrouped_per_100_steps": round(sum(regrouped) / len(regrouped), 4)}
    return measured(run, work / run.name, content) | found | minutes_since(start)


def go_on(content: dict[str, Any], out: Path, until: int | None = None, **beginning: Path | None) -> None:
    """Begin a run, or continue it where it was interrupted."""
    out.mkdir(parents=True, exist_ok=True)
    resolved = resolve(content)
    options: dict[str, Any] = {"resume": True} if (out / CHECKPOINT).exists() else dict(beginning)
    with (out / "log.txt").open("a") as log:
        console = Console(file=log, width=150)
        train(build(resolved), resolved, out, until=until, accelerator="cpu", console=console, **options)


def minutes_since(start: float) -> dict[str, float]:
    return {"minutes": round((time.perf_counter() - start) / 60, 1)}


@torch.no_grad()
def probed_groups(out: Path, step: int) -> Tensor:
    """(images, Q) the class whose prototype is nearest to each query after this step, on the same images of the source
    every time; kept in the run's folder, because a run that was interrupted has gone on from there."""
    kept = out / f"groups_{step}.pt"
    if not kept.exists():
        model = read_model(out).model
        bank = read_checkpoint(out / CHECKPOINT)["objectives"]
        images = torch.stack([Streets("clear", PROBE, 1, (128, 256))[i].image for i in range(PROBE)])
        embeddings = model(model.normalise(images)).final.mask_embeddings
        similarity = similarities(embeddings, bank["grqa.prototypes"])
        torch.save(nearest_prototypes(similarity, bank["grqa.initialised"])[0], kept)
    groups: Tensor = torch.load(kept)
    return groups


def measured(run: Run, out: Path, content: dict[str, Any]) -> dict[str, Any]:
    """mIoU and what queries do, per domain."""
    loaded, sets = read_model(out), test_sets(run, content)
    protocol = Protocol(**content["data"].get("protocol", {}))
    figures: dict[str, dict[str, float | None]] = {}
    if has_queries(loaded.model):
        diagnosis = diagnose(loaded.model, sets, protocol, num_images=None)
        assert diagnosis.table is not None
        evaluations = diagnosis.table.evaluations
        figures = {name: entry["figures"] for name, entry in diagnosis.to_json()["domains"].items()}
    else:
        evaluations = [evaluate(loaded.model, dataset, protocol, name=name) for name, dataset in sets.items()]
    return {
        "run": run.name,
        "setting": run.setting,
        "queries": run.queries,
        "arm": run.arm,
        "seed": run.seed,
        "steps": content["training"]["steps"],
        "mean_iou": {found.name: round(found.mean_iou, 5) for found in evaluations},
        **({"iou": {found.name: class_scores(found) for found in evaluations}} if run.arm in BY_CLASS else {}),
        "figures": {name: {k: v and round(v, 4) for k, v in found.items()} for name, found in figures.items()},
        **last_statistics(out / "metrics.csv"),
    }


def class_scores(found: Evaluation) -> dict[str, float | None]:
    """IoU per class; None for classes that neither labels nor predictions know."""
    scores = zip(found.class_names, found.iou.tolist(), strict=True)
    return {name: None if isnan(score) else round(score, 5) for name, score in scores}


def last_statistics(metrics: Path) -> dict[str, float]:
    """What GRQA's log says of the last tenth of the steps; nothing for arms without it."""
    found = {}
    for name, points in read_curves(metrics).items():
        if name.startswith("grqa/") and points:
            last = [value for _, value in points[-max(1, len(points) // 10) :]]
            found[name] = round(sum(last) / len(last), 5)
    return found


def run_one(name: str, work: Path, camvid: Path | None) -> None:
    """A run in a process of its own."""
    run = next(run for run in all_runs() if run.name == name)
    append_row(RESULTS, train_and_test(run, work, camvid))


def run_all(args: argparse.Namespace) -> None:
    """What is missing, some at a time; the runs of one chain (a first stage and its forks) follow each other."""
    work = args.work
    check_pretrained(work)
    write_training_streets(work / "streets", Run("streets", "qprompt", 0).content()["data"]["train"])
    runs = [run for run in all_runs() if run.setting != "camvid" or args.camvid]
    done = {row["run"] for row in read_rows(RESULTS) if row["arm"] not in BY_CLASS or "iou" in row}
    train_missing(__file__, {run.name: (run.stem or run).name for run in runs}, done, args)


def main() -> None:
    """Run what is missing; print."""
    parser = table_parser(__doc__, ROOT / "runs" / "generalization", "day, dusk", "streets/")
    args = parser.parse_args()
    if args.run:
        run_one(args.run, args.work, args.camvid)
        return
    if not args.print:
        run_all(args)
    print(summary(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
