"""The way into training: devices and the run's folder, then the trainer in every process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from rich.console import Console

from queryseg.errors import RecipeError
from queryseg.recipe import Precision, Recipe
from queryseg.segmenter import Segmenter
from queryseg.training.start import Beginning, check_end, prepare_folder
from queryseg.training.trainer import Trainer, TrainingResult


def train(
    recipe: Recipe,
    resolved: Mapping[str, Any],
    out: str | Path,
    resume: bool = False,
    start_from: str | Path | None = None,
    fork: str | Path | None = None,
    until: int | None = None,
    previous: Segmenter | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    console: Console | None = None,
) -> TrainingResult:
    """Train a recipe into a run folder: recipe.yaml, model.safetensors, last.ckpt, metrics.csv, TensorBoard, pictures.

    recipe      its backbone is trained in place; build a recipe again before training it again
    resolved    the recipe as plain values
    resume      continue the run in `out`; nothing may change that reaches the weights
    start_from  a run, or a file of weights: take the tensors that fit; everything may change
    fork        a run that stopped before its end: go on from its checkpoint in `out`, as this recipe; only objectives
                may differ, and those of the same name and shape keep their state (GRQA its prototype bank)
    until       stop after this step, saved; the schedules are those of the whole run
    previous    the model of the task before, for objectives that compare with it
    devices     processes; more than one train together (each with its own batches)

    Raises: RecipeError, InputError, CheckpointError; DivergenceError (NaN); TrainingInterrupted (Ctrl-C, saved)
    """
    out = Path(out)
    check_end(until, recipe.training.steps)
    beginning = Beginning(resume, *(None if path is None else Path(path) for path in (start_from, fork)))
    fabric = open_fabric(recipe.training.precision, accelerator, devices)
    if fabric.is_global_zero:  # before further processes start, which then find the folder as it must be
        prepare_folder(out, resume, beginning.fork)

    def run(fabric: Fabric) -> TrainingResult:
        return Trainer(fabric, recipe, resolved, out, beginning, until, previous, console).fit()

    return fabric.launch(run)  # type: ignore[no-any-return]


def open_fabric(precision: Precision, accelerator: str = "auto", devices: int = 1) -> Fabric:
    """Devices, processes and precision, before anything is launched. Raises: RecipeError"""
    strategy = "auto" if devices == 1 else "ddp_find_unused_parameters_true"  # objectives may join late
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=precision)
    if fabric.device.type == "cpu" and precision == "16-mixed":
        raise RecipeError("training.precision is 16-mixed, which needs a GPU; use bf16-mixed or 32-true on a CPU.")
    return fabric
