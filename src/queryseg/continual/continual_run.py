"""Trains and measures the steps of a continual recipe, each in a folder that is an ordinary run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console

from queryseg.continual.continual_plan import ORIGIN, ContinualPlan, find_pseudo_labels
from queryseg.continual.continual_report import write_reports
from queryseg.continual.continual_table import ContinualTable
from queryseg.continual.step_pictures import write_step_pictures
from queryseg.continual.step_scores import SCORES, StepScores, class_scores
from queryseg.errors import CheckpointError, InputError, UsageError
from queryseg.evaluation.evaluator import evaluate
from queryseg.inference.panoptic import segment_finder
from queryseg.inference.predictor import recorded_protocol
from queryseg.inference.run_folder import MODEL, load_weights, read_model, read_run_recipe
from queryseg.objectives import PseudoLabels
from queryseg.objectives.pseudo_distribution import PSEUDO_DISTRIBUTION_FILE
from queryseg.queries import StagedQueries
from queryseg.recipe_file import Resolved, build, build_untrained, without_weights
from queryseg.segmenter import Segmenter
from queryseg.spelling import first_of
from queryseg.training.checkpoint import CHECKPOINT, canonical, check_same_recipe
from queryseg.training.interruption import TrainingInterrupted
from queryseg.training.launch import open_fabric
from queryseg.training.loading import batches, training_loader
from queryseg.training.pseudo_label_count import count_pseudo_labels
from queryseg.training.start import Beginning, prepare_folder
from queryseg.training.trainer import Trainer


def train_continually(
    resolved: Resolved,
    out: str | Path,
    resume: bool = False,
    steps: tuple[int, int] | None = None,
    first_step: str | Path | None = None,
    start_from: str | Path | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    console: Console | None = None,
) -> ContinualTable:
    """Train a recipe with a section `continual`: out/step_1, out/step_2 … are runs, and out/continual.html, .md, .json
    tell what became of every step's classes, after each step.

    resolved    the recipe as plain values
    resume      continue where it stopped, within a step if need be; complete steps stay
    steps       only these, both included; the one before must be complete
    first_step  a run that takes the place of the first step, e.g. of another arm, or published weights
    start_from  a run, or a file of weights: the first step begins with what fits

    Others: see `train`.

    Raises: RecipeError, InputError, UsageError, CheckpointError, DivergenceError, TrainingInterrupted
    """
    plan = ContinualPlan.of(resolved, Path(out))
    fabric = open_fabric(resolved["training"]["precision"], accelerator, devices)
    run = ContinualRun(plan, (console or Console()) if fabric.is_global_zero else Console(quiet=True))
    chosen = plan.chosen(steps, with_first=first_step is not None)
    if fabric.is_global_zero:  # before further processes start, which then find the folder as it must be
        run.check(chosen, resume, first_step, start_from)
        run.prepare(first_step)

    def go(fabric: Fabric) -> ContinualTable:
        return run.go(fabric, chosen, None if start_from is None else Path(start_from))

    return fabric.launch(go)  # type: ignore[no-any-return]


class ContinualRun:
    """The steps of a plan, one after another."""

    def __init__(self, plan: ContinualPlan, console: Console) -> None:
        self.plan, self.console = plan, console
        # the user's own recipe named these packages: what it trained may be loaded
        self.allow = packages(plan.recipe)

    # ───────────────────────────── before anything is trained ─────────────────────────────

    def check(
        self, steps: Sequence[int], resume: bool, first_step: str | Path | None, start_from: str | Path | None
    ) -> None:
        """Raises: UsageError, InputError, CheckpointError"""
        plan, first = self.plan, steps[0]
        if first_step is not None and (start_from is not None or plan.settings.joint):
            raise UsageError(
                "--first-step takes the place of the first step; leave out --start-from, and joint training."
            )
        begun = plan.begun
        if start_from is not None and (resume or first > 1):
            raise UsageError(
                "--start-from is where the first step begins; leave it out, later steps begin where it ended."
            )
        if resume and not begun:
            raise CheckpointError(
                f"There is nothing to resume in {plan.out}: no step has begun; start without --resume."
            )
        if not resume and (held := [step for step in begun if step in steps]):
            raise InputError(
                f"{plan.out} already holds step {held[0]}; continue it with --resume, or choose another folder with "
                "--out."
            )
        if first > 1 and StepScores.read(plan.folder(first - 1)) is None:
            raise CheckpointError(
                f"Step {first} goes on from step {first - 1}, but {plan.folder(first - 1)} holds no complete run; "
                f"train it first, e.g. with --steps {first - 1}..{steps[-1]}."
            )
        for step in begun:
            if not (plan.folder(step) / ORIGIN).exists():
                then, now = read_run_recipe(plan.folder(step)), plan.step_recipe(step)
                check_same_recipe(plan.folder(step) / CHECKPOINT, canonical(then), canonical(now))

    def prepare(self, first_step: str | Path | None) -> None:
        """The folder, the step that was given, and a look at all images, so that what is wrong with the last step is
        said before the first one trains. Raises: InputError, RecipeError, CheckpointError"""
        plan = self.plan
        try:
            plan.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{plan.out} cannot be written ({error.strerror}); choose another folder with --out."
            ) from None
        plan.find_classes()
        for step in range(1, len(plan) + 1):
            plan.training_images(step)
            plan.validation_images(step)
        if first_step is not None and not (plan.folder(1) / ORIGIN).exists():
            self._take(Path(first_step))

    def _take(self, source: Path) -> None:
        """A run as the first step. Raises: CheckpointError"""
        folder = self.plan.folder(1)
        loaded = read_model(source, self.allow)
        if loaded.classes.names != self.plan.classes.names:
            raise CheckpointError(
                f"{source} knows other classes than this recipe; the first step may only come from a run of the same "
                "class table."
            )
        self._check_architecture(loaded.model, source, self.plan.step_recipe(1))
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # of a copy that was interrupted
        shutil.copytree(source, part, ignore=shutil.ignore_patterns("*.tmp", SCORES, "pictures", "events.*"))
        (part / ORIGIN).write_text(f"{source.absolute()}\n")
        part.rename(folder)

    def _check_architecture(self, model: Segmenter, source: Path, recipe: Resolved) -> None:
        """Raises: CheckpointError if the recipe's model is another one, but for queries that a step adds"""
        with torch.device("meta"):
            wanted = build_untrained(recipe, self.allow)
        have = {name: value.to("meta") for name, value in model.state_dict().items()}
        added = wanted.queries.added() if isinstance(wanted.queries, StagedQueries) else ()
        load_weights(wanted, have, str(source / MODEL), {f"queries.{name}" for name in added})

    # ───────────────────────────── one after another ─────────────────────────────

    def go(self, fabric: Fabric, steps: Sequence[int], start_from: Path | None) -> ContinualTable:
        """In every process."""
        for step in steps:
            if StepScores.read(self.plan.folder(step)) is not None:
                continue
            try:
                self._step(fabric, step, start_from)
            except TrainingInterrupted:
                raise
            except KeyboardInterrupt:
                raise TrainingInterrupted(
                    f"Stopped in step {step} of {len(self.plan)}; continue with the same command and --resume."
                ) from None
        return self.table()

    def table(self) -> ContinualTable:
        """Of the steps that are complete. Raises: CheckpointError if one's scores are damaged"""
        plan = self.plan
        found = [StepScores.read(plan.folder(step)) for step in range(1, len(plan) + 1)]
        complete = [scores for scores in found if scores is not None]
        shown = str(recorded_protocol(plan.recipe))
        return ContinualTable(plan.classes, plan.split, complete, plan.settings.protocol, shown, plan.settings.joint)

    def _step(self, fabric: Fabric, step: int, start_from: Path | None) -> None:
        plan = self.plan
        labels = plan.trained.current(step)
        names = first_of([plan.classes.names[label] for label in labels], 6)
        self.console.print(f"Step {step} of {len(plan)}: {names}", markup=False)
        taken = (plan.folder(step) / ORIGIN).exists()
        if taken:
            model = read_model(plan.folder(step), self.allow).model.to(fabric.device)
        else:
            model = self._train(fabric, step, start_from)
        if fabric.is_global_zero:
            self._measure(model, step)
        fabric.barrier()

    def _train(self, fabric: Fabric, step: int, start_from: Path | None) -> Segmenter:
        plan, folder = self.plan, self.plan.folder(step)
        recipe, previous = plan.step_recipe(step), None
        resume = (folder / CHECKPOINT).exists()
        if fabric.is_global_zero:
            prepare_folder(folder, resume)
        if step > 1:
            start_from = plan.folder(step - 1)
            previous = read_model(start_from, self.allow).model
            self._check_architecture(previous, start_from, recipe)
            if fabric.is_global_zero:
                self._count_pseudo_labels(fabric, step, recipe, previous)
        fabric.barrier()
        beginning = Beginning(resume, None if resume else start_from)
        trainer = Trainer(fabric, build(recipe), recipe, folder, beginning, None, previous, self.console)
        trainer.fit()
        return trainer.result

    def _count_pseudo_labels(self, fabric: Fabric, step: int, values: Resolved, previous: Segmenter) -> None:
        """pseudo_labels.json: what the model of the step before finds in one epoch of this step's training images; kept
        when the step is resumed."""
        path, name = self.plan.folder(step) / PSEUDO_DISTRIBUTION_FILE, find_pseudo_labels(values["objectives"])
        if name is None or path.exists():
            return
        self.console.print("Counting what the model before finds in the images.", markup=False)
        recipe = build(without_weights(values))
        dataset = self.plan.training_images(step)
        epoch = math.ceil(len(dataset) / (recipe.training.batch_size * recipe.training.accumulate))
        recipe = replace(recipe, training=replace(recipe.training, steps=epoch))
        loader = training_loader(recipe, dataset, path.parent, 0, 0, 1, pin_memory=False)
        labels = recipe.objectives[name](previous.dims)
        assert isinstance(labels, PseudoLabels)
        on_device = (fabric.to_device(batch) for batch in batches(loader))
        found = count_pseudo_labels(previous.to(fabric.device), labels, on_device)
        found.write(path, self.plan.classes.names)
        names = [self.plan.classes.names[label] for label in self.plan.split.old(step) if not found.counts[label]]
        if names:
            self.console.print(
                f"It finds none of {', '.join(names)}: where these images show them they count as nothing, and are "
                f"forgotten. A lower threshold or overlap of {name} finds more.",
                markup=False,
            )

    def _measure(self, model: Segmenter, step: int) -> None:
        """scores.json of the step, its pictures, and the run's reports."""
        plan, data = self.plan, self.plan.recipe["data"]
        finder = segment_finder(plan.task)
        scores, num_images = {}, {}
        for name, dataset in plan.validation_images(step).items():
            found = evaluate(
                model,
                dataset,
                recorded_protocol(plan.recipe),
                name=name,
                num_workers=data["num_workers"],
                measures=() if finder is None else ("panoptic",),
                find_segments=finder,
            )
            scores[name] = class_scores(found, plan.measured(step))
            num_images[name] = found.num_images
        write_step_pictures(model, plan, step)
        StepScores(step, scores, num_images, plan.memory(step)).write(plan.folder(step))
        table = self.table()
        write_reports(table, plan)
        for measure in table.measures:
            self.console.print(table.group_grid(table.data_names[0], measure))


def packages(content: Any) -> set[str]:
    """First words of all dotted paths that a recipe names."""
    if isinstance(content, Mapping):
        path = content.get("class_path")
        own = {path.partition(".")[0]} if isinstance(path, str) else set()
        return own.union(*(packages(value) for value in content.values()))
    return set[str]().union(*map(packages, content)) if isinstance(content, list) else set()
