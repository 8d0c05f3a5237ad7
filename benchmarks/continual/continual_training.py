"""How runs of the comparisons of ways to learn class by class are trained: their images, their first weights, and on
from where they stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from continual_arms import MAIN, Run
from rich.console import Console

from queryseg.continual.continual_plan import ContinualPlan
from queryseg.continual.continual_run import train_continually
from queryseg.continual.continual_table import ContinualTable
from queryseg.data.streets import Streets
from queryseg.data.writer import write_cityscapes
from queryseg.recipe_file import Resolved, resolve

sys.path.append(str(Path(__file__).parents[1]))
from chained_runs import PRETRAINED, check_pretrained


def resolved_recipe(run: Run, work: Path, camvid: Path | None = None) -> Resolved:
    """The resolved recipe of a run with its training images on the disk."""
    content = run.content()
    if run.setting.startswith("camvid"):
        content["data"]["root"] = str(camvid)
    else:
        kind = "_panoptic" if "panoptic" in run.setting else ""
        content["data"]["train"] = str(work / "streets" / f"train_clear{kind}.yaml")
    return resolve(content)


def write_streets(root: Path, **changes: Any) -> Path:
    """Training scenes on the disk, where a user's own images would be, with their objects: the data file. changes: of
    `Streets`"""
    scenes = {**Run(MAIN, "simcis", 0).content()["data"]["train"], **changes}
    del scenes["layout"]
    file = root / f"train_{scenes['domain']}_panoptic.yaml"
    if not file.exists():  # it is written last
        write_cityscapes(Streets(**scenes), root, "train", 2, panoptic=True)
    return file


def make_ready(work: Path) -> None:
    """The images that all train on. Raises: SystemExit without the trunk that all begin with"""
    check_pretrained(work)
    write_streets(work / "streets")


def go_on(run: Run, work: Path, camvid: Path | None = None, **options: Any) -> ContinualTable:
    """Begin a run, or continue it where it was interrupted; its first step is a shared one, if it has one."""
    start = {"start_from": work / PRETRAINED} if run.stem is None else {"first_step": first_step(run, work, camvid)}
    return train_steps(resolved_recipe(run, work, camvid), work / run.name, **start, **options)


def first_step(run: Run, work: Path, camvid: Path | None = None) -> Path:
    """The folder of the shared first step that the run goes on from, trained."""
    go_on(run.shared, work, camvid, steps=(1, 1))
    return work / run.shared.name / "step_1"


def train_steps(resolved: Resolved, out: Path, start_from: Path | None = None, **options: Any) -> ContinualTable:
    """What the steps say goes to a file."""
    begun = bool(ContinualPlan.of(resolved, out).begun)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("a") as log:
        return train_continually(
            resolved,
            out,
            resume=begun,
            start_from=None if begun else start_from,
            accelerator="cpu",
            console=Console(file=log, width=150),
            **options,
        )
