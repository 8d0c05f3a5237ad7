"""How runs of the comparisons of ways to learn class by class are trained: their images, their first weights, and on
from where they stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from continual_arms import MAIN, Run
from rich.console import Console

from queryseg.continual.continual_run import train_continually
from queryseg.continual.continual_table import ContinualTable
from queryseg.data.streets import Streets
from queryseg.data.writer import write_cityscapes
from queryseg.recipe_file import Resolved, resolve

PRETRAINED = "pretrained.safetensors"


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
    if not (work / PRETRAINED).exists():
        raise SystemExit(f"There is no {work / PRETRAINED}; make it with benchmarks/generalization/pretrain.py.")
    write_streets(work / "streets")


def go_on(run: Run, work: Path, camvid: Path | None, **options: Any) -> ContinualTable:
    """Begin a run, or continue it where it was interrupted."""
    out = work / run.name
    if run.stem is None and not has_begun(out):
        options["start_from"] = work / PRETRAINED
    return train_steps(resolved_recipe(run, work, camvid), out, **options)


def has_begun(out: Path) -> bool:
    return any(out.glob("step_*/last.ckpt")) or any(out.glob("step_*/origin.txt"))


def train_steps(resolved: Resolved, out: Path, **options: Any) -> ContinualTable:
    """What the steps say goes to a file."""
    begun = has_begun(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("a") as log:
        console = Console(file=log, width=150)
        return train_continually(resolved, out, resume=begun, accelerator="cpu", console=console, **options)
