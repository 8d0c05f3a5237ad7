"""Many runs of one recipe: named arms that differ in some settings, each with several seeds."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from queryseg.errors import CheckpointError, InputError, QuerysegError, RecipeError
from queryseg.inference.predictor import recorded_protocol
from queryseg.inference.run_folder import read_run_recipe, replace_file
from queryseg.recipe_file import Resolved, build, read_recipe, read_settings, resolve, without_weights
from queryseg.segmenter import build_segmenter
from queryseg.spelling import check_keys, did_you_mean
from queryseg.training.checkpoint import CHECKPOINT, canonical, check_same_recipe
from queryseg.training.guard import DivergenceError
from queryseg.training.interruption import TrainingInterrupted
from queryseg.training.launch import train
from queryseg.training.loading import check_sources
from queryseg.training.step import build_objectives
from queryseg.training.sweep_table import Scores, SweepTable

RESULT = "result.json"
"""In a run's folder, once it is complete: its mIoU on every validation set."""
TABLES = ("sweep.csv", "sweep.json")
"""In the sweep's folder: what is complete."""


@dataclass(frozen=True)
class Arm:
    """name: of its folder and its row; overrides: dotted key of the recipe → value."""

    name: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class SweepRun:
    """One arm with one seed. recipe: resolved."""

    arm: str
    seed: int
    recipe: Resolved
    folder: Path

    def scores(self) -> Scores | None:
        """mIoU on every validation set once the run is complete. Raises: CheckpointError"""
        path = self.folder / RESULT
        try:
            found: Scores = json.loads(path.read_text())["mean_iou"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise CheckpointError(f"{path} is damaged; delete it, and {CHECKPOINT} tells the scores again.") from None
        return found

    def check_folder(self) -> None:
        """Raises: CheckpointError if the folder holds a run of another recipe, or scores that do not compare."""
        scores, held = self.scores(), self.folder / CHECKPOINT
        if scores is None and not held.exists():
            return
        then = read_run_recipe(self.folder)
        check_same_recipe(held, canonical(then), canonical(self.recipe))
        if scores is not None and (
            scores.keys() != self.recipe["data"]["validate"].keys()
            or recorded_protocol(then) != recorded_protocol(self.recipe)
        ):
            raise CheckpointError(
                f"{self.folder} is complete and was validated on {', '.join(scores)} ({recorded_protocol(then)}), but "
                f"the recipe now says {', '.join(self.recipe['data']['validate'])} ({recorded_protocol(self.recipe)}); "
                "change it back, or compare the runs by `queryseg evaluate`."
            )


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    seeds  None: the recipe's own
    seen   names of the validation sets from the training domain; None: the first one
    """

    arms: Sequence[Arm]
    seeds: Sequence[int] | None = None
    seen: Sequence[str] | None = None

    def plan(self, recipe: str | Path, overrides: Sequence[str], out: Path) -> list[SweepRun]:
        """All runs, in order: the first seed of every arm, then the second. overrides: of every arm, as on the command
        line; an arm's own come after them.

        Every recipe is resolved and its parts are built, without weights, so that what is wrong with the last arm is
        said before the first one trains.

        Raises: RecipeError, CheckpointError
        """
        resolved: dict[str, Resolved] = {}
        for arm in self.arms:
            try:
                content = resolve(read_recipe(recipe, overrides, arm.overrides))
                if content["continual"] is not None:
                    raise RecipeError(
                        f"{recipe} learns classes step by step, which a sweep does not; train it without --sweep, once "
                        "for each setting, and its orders of classes with --orders A..B."
                    )
                check_sources(content["data"])
                _check_parts_fit(content)
            except QuerysegError as error:
                raise RecipeError(f"Arm '{arm.name}': {error}") from None
            twin = next((name for name, other in resolved.items() if other == content), None)
            if twin is not None:
                raise RecipeError(f"Arms '{twin}' and '{arm.name}' are the same recipe; leave one of them out.")
            resolved[arm.name] = content
        self._check_validation(resolved)
        seeds = [next(iter(resolved.values()))["seed"]] if self.seeds is None else self.seeds
        runs = [
            SweepRun(name, seed, {**content, "seed": seed}, out / name / f"seed_{seed}")
            for seed in seeds
            for name, content in resolved.items()
        ]
        for run in runs:
            try:
                run.check_folder()
            except QuerysegError as error:
                raise CheckpointError(f"Arm '{run.arm}', seed {run.seed}: {error}") from None
        return runs

    def _check_validation(self, resolved: Mapping[str, Resolved]) -> None:
        (first, reference), *others = resolved.items()
        names, protocol = list(reference["data"]["validate"]), recorded_protocol(reference)
        if not names:
            raise RecipeError("A sweep compares mIoU, but the recipe validates nothing; add data.validate.")
        for name, content in others:
            same_data = content["data"]["validate"] == reference["data"]["validate"]
            if not same_data or recorded_protocol(content) != protocol:
                raise RecipeError(
                    f"Arms '{first}' and '{name}' are validated on other data or by another protocol, so that their "
                    "scores do not compare; give all arms the same data.validate and data.protocol."
                )
        if unknown := [name for name in self.seen or () if name not in names]:
            raise RecipeError(
                f"'seen' names '{unknown[0]}', which is none of data.validate.{did_you_mean(unknown[0], names)}"
            )

    def table(self, runs: Sequence[SweepRun]) -> SweepTable:
        """Of the runs that are complete."""
        data = runs[0].recipe["data"]
        scores: dict[str, dict[int, Scores]] = {arm.name: {} for arm in self.arms}
        for run in runs:
            found = run.scores()
            if found is not None:
                scores[run.arm][run.seed] = found
        names = list(data["validate"])
        return SweepTable(
            {arm.name: arm.overrides for arm in self.arms},
            scores,
            names,
            names[:1] if self.seen is None else self.seen,
            list(dict.fromkeys(run.seed for run in runs)),
            recorded_protocol(runs[0].recipe),
        )


def train_sweep(
    sweep: Sweep,
    runs: Sequence[SweepRun],
    out: Path,
    start_from: str | Path | None = None,
    accelerator: str = "auto",
    console: Console | None = None,
) -> SweepTable:
    """Train what is not complete, each run in `run.folder`, and keep sweep.csv and sweep.json in `out` up to date.

    runs  of `sweep.plan`. Complete ones are skipped, interrupted ones resumed: the same call continues. One that
          diverges does not keep the others from training.

    Others: see `train`. Raises: TrainingInterrupted (Ctrl-C, saved), DivergenceError at the end, and what `train` does
    """
    console = console or Console()
    table = _written(sweep, runs, out)
    diverged: list[str] = []
    try:
        for number, run in enumerate(runs, 1):
            label = f"arm {run.arm}, seed {run.seed}"
            if run.scores() is not None:
                continue
            console.print(f"Run {number} of {len(runs)}: {label}", markup=False)
            resume = (run.folder / CHECKPOINT).exists()
            begin = None if resume else start_from
            try:
                result = train(  # holds the only reference to the model, which must leave the device before the next
                    build(run.recipe), run.recipe, run.folder, resume, begin, accelerator=accelerator, console=console
                )
            except DivergenceError as error:
                console.print(str(error), markup=False, soft_wrap=True)
                diverged.append(label)
                continue
            except KeyboardInterrupt:
                raise TrainingInterrupted(f"The sweep stopped in {label}; continue with the same command.") from None
            content = {"steps": result.steps, "mean_iou": result.mean_iou}
            replace_file(run.folder / RESULT, json.dumps(content, indent=1).encode())
            run.check_folder()
            table = _written(sweep, runs, out)
    finally:
        console.print(table)
    if diverged:
        raise DivergenceError(
            f"{len(diverged)} of {len(runs)} runs diverged ({'; '.join(diverged)}) and are not in the table; the "
            "others are complete. Lower the learning rate, or leave these arms out."
        )
    return table


def read_sweep(path: str | Path) -> Sweep:
    """A sweep file.

        seeds: [0, 1, 2]                  # default: the recipe's own
        seen: [cityscapes]                # validation sets of the training domain; default: the first one; []: none
        arms:
          - name: paper                   # the recipe as it is
          - name: no_kl
            overrides: {objectives.grqa.kl_weight: 0}
        grid:                             # and every combination of these, named by its values
          objectives.grqa.clip: [0.05, 0.1]
          objectives.grqa.momentum: [0.9, 0.99]

    Raises: RecipeError
    """
    content = read_settings(Path(path), "sweep", "arms and seeds")
    where = f"The sweep {path}"
    if wrong := check_keys(content, ("arms", "grid", "seeds", "seen"), where):
        raise RecipeError(wrong)
    arms = [_arm(entry, where) for entry in _listed(content, "arms", where)] + _grid(content.get("grid"), where)
    if not arms:
        raise RecipeError(f"{where} has no arms; list at least one under 'arms', or values under 'grid'.")
    names = [arm.name for arm in arms]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RecipeError(f"{where} names the arm '{twice[0]}' twice; give every arm its own name.")
    seeds = _listed(content, "seeds", where) if "seeds" in content else None
    if seeds is not None and (
        not seeds or any(type(seed) is not int or seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds)
    ):
        raise RecipeError(f"{where} has seeds: {seeds}; give different whole numbers from 0, as in [0, 1, 2].")
    seen = _listed(content, "seen", where) if "seen" in content else None
    return Sweep(arms, seeds, seen)


def _listed(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = content.get(key, [])
    if not isinstance(value, list):
        raise RecipeError(f"{where} has {key}: {value!r}, but needs a list there.")
    return value


def _arm(entry: object, where: str) -> Arm:
    if not isinstance(entry, Mapping):
        raise RecipeError(f"{where} has the arm {entry!r}; write it as {{name: NAME, overrides: {{KEY: VALUE}}}}.")
    if wrong := check_keys(entry, ("name", "overrides"), f"{where}: an arm"):
        raise RecipeError(wrong)
    name, overrides = entry.get("name"), entry.get("overrides", {})
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+=-]*", name) or name in TABLES:
        raise RecipeError(
            f"{where} has an arm whose name is {name!r}; it becomes a folder: use letters, digits and . _ + = -, "
            "in quotes if it looks like a number."
        )
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise RecipeError(f"{where}: arm '{name}' has overrides {overrides!r}; give a mapping from keys to values.")
    if "seed" in overrides:
        raise RecipeError(f"{where}: arm '{name}' overrides the seed; name seeds under 'seeds', for all arms.")
    return Arm(name, dict(overrides))


def _grid(grid: object, where: str) -> list[Arm]:
    """Every combination, named after the last words of the keys: clip_0.1-momentum_0.9."""
    if grid is None:
        return []
    if not isinstance(grid, Mapping) or not grid or any(not isinstance(v, list) or not v for v in grid.values()):
        raise RecipeError(f"{where} has grid: {grid!r}; give a mapping from keys to lists of values.")
    arms = []
    for values in itertools.product(*grid.values()):
        overrides = dict(zip(grid, values, strict=True))
        words = [f"{str(key).rpartition('.')[2]} {value}" for key, value in overrides.items()]
        name = "-".join(re.sub(r"[^\w.+=-]+", "_", word).strip("_") for word in words)
        arms.append(_arm({"name": name, "overrides": overrides}, where))
    return arms


def _check_parts_fit(resolved: Resolved) -> None:
    """Raises: RecipeError for values that a part refuses, and parts that do not fit together."""
    recipe = build(without_weights(resolved))
    build_objectives(
        build_segmenter(recipe.class_table.names, recipe.model), recipe.objectives, frozenset(), recipe.data.task
    )


def _written(sweep: Sweep, runs: Sequence[SweepRun], out: Path) -> SweepTable:
    table = sweep.table(runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another folder with --out.") from None
    for name, content in zip(TABLES, (table.to_csv(), json.dumps(table.to_json(), indent=1, default=str)), strict=True):
        replace_file(out / name, content.encode())
    return table
