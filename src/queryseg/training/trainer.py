"""The training loop, spelled out.

Lightning Fabric brings devices, distributed training, precision and clipping; what happens in which order is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from rich.console import Console
from torch import Tensor

from queryseg.data.batch import Batch
from queryseg.errors import CheckpointError, reason_of
from queryseg.evaluation.diagnostics import Diagnosis, QueryObserver, has_queries
from queryseg.evaluation.evaluator import evaluate
from queryseg.inference.panoptic import segment_finder
from queryseg.inference.run_folder import (
    base_weights,
    check_base,
    fill_base,
    load_weights,
    read_base,
    write_base,
    write_recipe,
)
from queryseg.inference.text_prompt import write_trained
from queryseg.recipe import Recipe
from queryseg.segmenter import Segmenter, build_segmenter
from queryseg.spelling import first_of
from queryseg.training import checkpoint
from queryseg.training.frozen_copy import follow, frozen_copy, own_tensors, restore_copy
from queryseg.training.guard import DivergenceError, is_finite, save_failure
from queryseg.training.interruption import StopRequest, TrainingInterrupted
from queryseg.training.loading import batches, fingerprint, open_checked, training_loader
from queryseg.training.meter import PACE, Meter
from queryseg.training.parameter_groups import freeze_others, parameter_groups
from queryseg.training.pictures import prediction_picture
from queryseg.training.progress import Progress
from queryseg.training.records import Records
from queryseg.training.references import References
from queryseg.training.schedule import decayed, learning_rate, reseed
from queryseg.training.start import Beginning, TakenWeights, find_base, start_from_weights, take_over
from queryseg.training.step import TrainingStep, build_objectives
from queryseg.training.summary import summary_lines, trunk_lines

NUM_OBSERVED = 30
"""Images of every validation set whose queries are looked at: bounds what that costs."""


@dataclass(frozen=True)
class TrainingResult:
    """folder: the run; steps: taken in all; mean_iou: of the last model on every validation set, 0…1."""

    folder: Path
    steps: int
    mean_iou: dict[str, float]


class Trainer:
    """Everything a run consists of. See `train` for the arguments."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        resolved: Mapping[str, Any],
        out: Path,
        beginning: Beginning,
        until: int | None,
        previous: Segmenter | None,
        console: Console | None,
    ) -> None:
        self.fabric, self.recipe, self.settings, self.out = fabric, recipe, recipe.training, out
        self.path = out / checkpoint.CHECKPOINT
        self.canonical = checkpoint.canonical(resolved)
        classes = recipe.class_table
        self.dataset = open_checked(recipe.data.train, recipe.data, classes, "data.train")
        self.validation = {
            name: open_checked(source, recipe.data, classes, f"data.validate.{name}")
            for name, source in recipe.data.validate.items()
        }

        reseed(recipe.seed, 0, 0, 0)  # the parts made here begin alike in every process
        earlier = out if beginning.resume else beginning.fork
        begins_here = earlier is None and beginning.start_from is None
        self.model = build_segmenter(classes.names, recipe.model, initialise=begins_here)
        self.model.begin_training()
        given = frozenset({"previous_task"} if previous else ())
        objectives = build_objectives(self.model, recipe.objectives, given, recipe.data.task)
        source = beginning.start_from
        taken = TakenWeights() if source is None else start_from_weights(self.model, source)
        report = list(taken.lines)
        self.base = find_base(self.model, beginning.start_from) if earlier is None else read_base(earlier)
        self.loaded = frozenset(base_weights(self.model)) if self.base else frozenset[str]()
        if self.base is not None and earlier is not None:
            (check_base if self.base.file is None else fill_base)(self.model, self.base, earlier)
        if self.settings.trained is not None:
            freeze_others(self.model, self.settings.trained)
        groups = parameter_groups(self.model, objectives, self.settings)
        # one kernel for all tensors; it unscales by itself, which clipping under 16-mixed must do before
        fused = fabric.device.type in ("cpu", "cuda") and self.settings.precision != "16-mixed"
        optimiser = torch.optim.AdamW(groups, self.settings.learning_rate, fused=fused)
        self.references = References(self.model, None if previous is None else previous.to(fabric.device))
        step = TrainingStep(self.model, objectives, self.references, self.settings.steps)
        self.module, self.optimiser = fabric.setup(step, optimiser)
        # after setup, which moves the model to its device and makes all processes' weights one
        self.average = None if self.settings.ema_decay is None else frozen_copy(self.model)
        terms = [f"{name}/{term}" for name, objective in objectives.items() for term in objective.weights]
        self.statistics = [f"{name}/{term}" for name, o in objectives.items() for term in sorted(o.statistics)]
        self.meter = Meter(["loss", *terms, *self.statistics, "gradient_norm"], fabric.device)
        self.step, self.scores = 0, dict[str, float]()
        self.qualities = dict[str, float]()
        self.end, self.resumed = self.settings.steps if until is None else until, beginning.resume
        if beginning.resume:
            self._restore(self.path)
        if beginning.fork is not None:
            report = self._restore(beginning.fork / checkpoint.CHECKPOINT, fork=True)

        console = (console or Console()) if fabric.is_global_zero else Console(quiet=True)
        self.progress = Progress(console, self.settings.steps, self.step)
        kinds = ("miou",) if recipe.data.task == "semantic" else ("miou", "pq")
        scores = [f"{kind}/{name}" for kind in kinds for name in self.validation]
        columns = ["step", "learning_rate", *self.meter.names, *scores, *PACE]
        trunk = trunk_lines(self.model.backbone, beginning, taken.names)
        summary = summary_lines(self.model, recipe, trunk, len(self.dataset), fabric.world_size, str(fabric.device))
        stored = [] if self.base is None else [f"Stored is what is trained, without its base: {self.base}"]
        remarks = [remark for objective in objectives.values() for remark in objective.remarks()]
        for line in [*summary, *stored, *report, *remarks]:
            self.progress.say(line)
        self.records: Records | None = None  # only the first process writes
        if fabric.is_global_zero:
            write_recipe(out, resolved)
            if self.base is not None:
                write_base(out, self.base)
            self.records = Records(out, columns, self.step)

    def fit(self) -> TrainingResult:
        """The loop."""
        settings = self.settings
        with StopRequest() as stop, self.progress, closing(self.records) if self.records else nullcontext():
            if not self.resumed:
                self.save()  # shows at once whether the folder can hold a run
            stream = self._batches()
            self.module.train()
            while self.step < self.end:
                self.meter.start()
                stopping = self.optimise(stream, stop)
                self.meter.stop(settings.batch_size * settings.accumulate * self.fabric.world_size)
                self.step += 1
                self.progress.advance(self.step)
                last = self.step == settings.steps
                validated = last or bool(settings.validate_every and self.step % settings.validate_every == 0)
                if validated:
                    self.validate()
                if validated or self.step % settings.log_every == 0:
                    self.log(validated)
                ending = self.step == self.end
                if ending or stopping or self.step % settings.save_every == 0:
                    self.save()
                if stopping and not ending:
                    raise TrainingInterrupted(
                        f"Stopped after step {self.step} of {settings.steps}, which is saved in {self.out}; continue "
                        "with the same command and --resume."
                    )
        return TrainingResult(self.out, self.step, self.scores)

    def optimise(self, stream: Iterator[Batch], stop: StopRequest) -> bool:
        """One optimiser step. Returns whether a process was asked to stop."""
        fabric, settings = self.fabric, self.settings
        decay = decayed(self.step, settings.steps, settings.weight_decay, settings.final_weight_decay)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, settings, group["factor"])
            group["weight_decay"] = decay if group["decays"] else 0.0
        seen, found = [], []
        for part in range(settings.accumulate):
            seen.append(self.meter.next(stream))
            reseed(self.recipe.seed, self.step, part, fabric.global_rank)
            with fabric.no_backward_sync(self.module, enabled=part < settings.accumulate - 1):
                found.append(self.module(fabric.to_device(seen[-1]), self.step))
                fabric.backward(found[-1]["loss"] / settings.accumulate)
        if self.step == 0:
            self._report_idle_parameters()
        # an infinite limit clips nothing and still tells the norm
        limit = math.inf if settings.clip_norm is None else settings.clip_norm
        norm = fabric.clip_gradients(self.module, self.optimiser, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None
        fine = is_finite([losses["loss"] for losses in found], norm, scaled=settings.precision == "16-mixed")
        table, failed, stopping = self._over_processes(
            self.meter.table([*found, {"gradient_norm": norm}]), not fine, stop.made
        )
        if failed:
            raise DivergenceError(save_failure(self.out, fabric.global_rank, self.step, seen, found, self.model))
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.module.module.after_step()
        if self.average is not None and settings.ema_decay is not None:
            begun = self.step >= round(settings.ema_start * settings.steps)
            follow(self.average, self.model, settings.ema_decay if begun else 0.0)
        self.meter.add(table)
        return stopping

    def validate(self) -> None:
        """mIoU on every validation set (of objects panoptic quality, too), what queries did there, and pictures. Never
        chooses a checkpoint: the last one is the result."""
        if self.records is not None and self.validation:
            data = self.recipe.data
            finder = segment_finder(data.task)
            names = self.validation if has_queries(self.result) else ()
            observers = {name: QueryObserver(self.result) for name in names}
            found = [
                evaluate(
                    self.result,
                    dataset,
                    data.protocol,
                    name=name,
                    num_workers=data.num_workers,
                    num_examples=3,
                    observer=observers.get(name),
                    num_observed=NUM_OBSERVED,
                    measures=() if finder is None else ("panoptic",),
                    find_segments=finder,
                )
                for name, dataset in self.validation.items()
            ]
            self.scores = {evaluation.name: evaluation.mean_iou for evaluation in found}
            self.records.picture(self.step, prediction_picture(found[0].examples, found[0].classes))
            if observers:
                observed = {name: observer.observed() for name, observer in observers.items()}
                self.records.diagnosis(self.step, Diagnosis.of(observed, found[0].classes))
            self.qualities = {e.name: e.measures["panoptic"].scores()["pq"] for e in found if e.measures}
            self.progress.validated(self.step, self.scores, self.qualities)
        self.fabric.barrier()

    def log(self, validated: bool) -> None:
        """A row of metrics.csv: means since the row before, over all processes."""
        means, pace = self.meter.take()
        if self.records is None:
            return
        # the rate that the last step used
        row = {"step": self.step, "learning_rate": learning_rate(self.step - 1, self.settings)}
        scores = {f"miou/{name}": score for name, score in self.scores.items()} if validated else {}
        scores |= {f"pq/{name}": quality for name, quality in self.qualities.items()} if validated else {}
        row |= means | scores | pace
        self.records.row(row)
        self.progress.row(self.step, {name: value for name, value in row.items() if name not in self.statistics})

    @property
    def result(self) -> Segmenter:
        """What is validated and saved as the model."""
        return self.model if self.average is None else self.average

    def save(self) -> None:
        """model.safetensors first: where last.ckpt says that the run is complete, the model is too, and what its
        objectives leave to the next task."""
        if self.records is not None:
            self.records.flush()
            write_trained(self.out, self.result, self._trained(self.result))
            if self.step == self.settings.steps:
                for objective in self.module.module.named_objectives().values():
                    objective.hand_over(self.out)
            checkpoint.write_checkpoint(self.path, self._state())
        self.fabric.barrier()

    def _trained(self, model: Segmenter) -> dict[str, Tensor]:
        """Its weights without those that loading finds elsewhere."""
        return {name: value for name, value in model.state_dict().items() if name not in self.loaded}

    def _state(self) -> checkpoint.State:
        return {
            "step": self.step,
            "recipe": self.canonical,
            "data": fingerprint(self.dataset, self.fabric.world_size),
            "model": self._trained(self.model),
            "average": {} if self.average is None else own_tensors(self.average, self.model),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "objectives": self.module.module.objectives.state_dict(),
            "references": self.references.state_dict(),
            "meter": self.meter.totals,
            "scores": self.scores,
        }

    def _restore(self, path: Path, fork: bool = False) -> list[str]:
        """Returns what a fork took over, line by line."""
        state = checkpoint.read_checkpoint(path)
        checkpoint.check_same_recipe(path, state["recipe"], self.canonical, fork)
        checkpoint.check_same_data(path, state["data"], fingerprint(self.dataset, self.fabric.world_size))
        load_weights(self.model, state["model"], str(path), self.loaded)
        report = []
        if fork:
            if state["step"] >= self.settings.steps:
                raise CheckpointError(f"{path} is a complete run; fork one that stopped before, e.g. by --until STEP.")
            report = take_over(self.module.module.objectives, state, path.parent)
        try:
            self.optimiser.load_state_dict(state["optimiser"])
            self.module.module.objectives.load_state_dict(state["objectives"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} does not fit this recipe ({reason_of(error)}); start a new run.") from None
        if self.average is not None:
            self.average = restore_copy(self.model, state["average"], str(path))
        self.references.load_state_dict(state["references"], str(path))
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if not fork:  # whose columns may be others
            self.meter.add(state["meter"].to(self.fabric.device))
        self.step, self.scores = state["step"], state["scores"]
        return report

    def _batches(self) -> Iterator[Batch]:
        fabric, pinned = self.fabric, self.fabric.device.type == "cuda"
        rank, processes = fabric.global_rank, fabric.world_size
        with fabric.rank_zero_first():  # counts classes, once
            loader = training_loader(self.recipe, self.dataset, self.out, self.step, rank, processes, pinned)
        return batches(loader)

    def _report_idle_parameters(self) -> None:
        idle = [name for name, p in self.module.module.named_parameters() if p.requires_grad and p.grad is None]
        if idle:
            self.progress.say(
                f"No gradient reached {len(idle)} trainable tensors in the first step: {first_of(idle, 5)}"
            )

    def _over_processes(self, table: Tensor, failed: bool, stopping: bool) -> tuple[Tensor, bool, bool]:
        """Sums over all processes, and whether any failed or was asked to stop: if not all acted alike, some would
        wait forever."""
        if self.fabric.world_size == 1:
            return table, failed, stopping
        message = torch.cat([table.flatten(), table.new_tensor([failed, stopping])])
        message = cast(Tensor, self.fabric.all_reduce(message, reduce_op="sum"))
        any_failed, any_stopping = (message[-2:] > 0).tolist()
        return message[:-2].view_as(table), any_failed, any_stopping
