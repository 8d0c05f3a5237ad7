"""What a recipe may say. Reading one from YAML is `recipe_file.py`.

A recipe is flat: no inheritance, no interpolation. Defaults live in these signatures and in those of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from queryseg.contracts import Objective
from queryseg.data.class_split import ClassSplit, Order, split_by_name, split_by_size
from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.protocol import Protocol
from queryseg.errors import RecipeError
from queryseg.segmenter import Parts
from queryseg.types import Dims, Task

DataSource = str | dict[str, Any]
"""The path of a data file, or its content."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

Schedule = Literal["poly", "mmcv_poly"]
"""A polynomial decay that begins where the warm-up ends; or, as mmcv 1 has it, one that begins at step 0 and that the
warm-up multiplies."""


@dataclass(frozen=True)
class DataSettings:
    """Where images come from and how training images are varied.

    root                   folder that relative paths inside inline data settings start from; None: the current one
    train, validate        data files; validate maps a name to each (first one: the figure of the progress bar).
                           Validation never chooses a checkpoint: the last one is the result.
    crop                   (height, width) of training images
    short_sides            the short side is drawn from these before cropping
    max_long_side          after resizing
    resize_range           instead of these two: the factor by which an image is resized, uniform between two numbers
    max_category_share     redraw a crop (at most 10 times) of which one class covers more
    flip                   probability of mirroring
    distort                photometric distortion
    rare_class_temperature rare-class sampling as in DAFormer; None: every image equally often
    rare_class_min_pixels  an image counts for a class with more than so many pixels of it (DAFormer: 3000)
    rare_class_crop_pixels redraw a crop (at most 10 times) until it shows more than so many pixels of the class that
                           its image was drawn for (DAFormer: 1500); None: take the first
    protocol               how validation images are shown
    num_workers            loader processes; results do not depend on it
    task                   what a query stands for: "semantic", a class; "panoptic", a class of stuff or an object of a
                           thing; "instance", an object. The last two need labels with instances and a class table
                           with things.

    Source: protocols.md §6.
    """

    train: DataSource
    root: str | None = None
    validate: dict[str, DataSource] = field(default_factory=dict)
    crop: tuple[int, int] = (512, 512)
    short_sides: list[int] = field(
        default_factory=lambda: [256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024]
    )
    max_long_side: int = 2048
    resize_range: tuple[float, float] | None = None
    max_category_share: float = 0.75
    flip: float = 0.5
    distort: bool = True
    rare_class_temperature: float | None = None
    rare_class_min_pixels: int = 0
    rare_class_crop_pixels: int | None = None
    protocol: Protocol = field(default_factory=Protocol)
    num_workers: int = 2
    task: Task = "semantic"

    def __post_init__(self) -> None:
        for name in ("rare_class_min_pixels", "rare_class_crop_pixels"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise RecipeError(f"data.{name} is {value}, but counts pixels; give 0 or more.")
            if value and self.rare_class_temperature is None:
                raise RecipeError(
                    f"data.{name} is {value}, but rare classes are not sampled; give data.rare_class_temperature, too."
                )


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to learn.

    steps             optimiser steps
    batch_size        images per process and forward pass
    accumulate        forward passes per optimiser step
    learning_rate     AdamW, of everything but the backbone
    backbone_factor   learning rate of the backbone relative to it (paper: 0.1); 1 from scratch
    backbone_scope    what that holds for: the "trunk" (stem and blocks), or the "whole" backbone, with the final norm,
                      pyramid and projection that stand around it
    adapter_factor    learning rate of an adapter's own weights relative to it (SoMA: 0.5)
    layer_decay       each block's rate is this fraction of the next one's (1: all alike)
    weight_decay      not on norms, biases, other vectors, query and position tables
    undecayed         patterns of parameter names ("decoder.*norm*") that are spared instead of these; None: these
    final_weight_decay  to which it is annealed, half a cosine over all steps (SoMA: 1e-5); None: constant
    warmup            share of the steps over which the rate rises linearly from 0
    power             of the polynomial decay
    min_learning_rate what every group's rate falls to, however high it began: a group that begins there never decays
    schedule          "poly" decays after the warm-up; "mmcv_poly" from step 0 on, under it
    milestones        shares of the steps after which the rate is multiplied by `drop`, instead of that decay
    drop              see `milestones`
    clip_norm         largest gradient norm (Mask2Former: 0.01); None: unclipped
    ema_decay         keep an exponential moving average of the weights and save it as the model; None: the weights
    trained           what of the model learns, by the beginnings of its parameters' names, e.g. [queries,
                      decoder.heads]; None: everything that its parts do not freeze
    ema_start         share of the steps after which it begins; until then the model is the weights (SoMA: 0.3)
    precision         "bf16-mixed" and "16-mixed" compute in half precision where that is safe
    validate_every    steps between validations (0: only at the end)
    save_every        steps between checkpoints for resuming
    log_every         steps between rows of metrics.csv and TensorBoard

    Source: QPrompt-R1 spec §4.
    """

    steps: int = 40_000
    batch_size: int = 4
    accumulate: int = 1
    learning_rate: float = 1e-4
    backbone_factor: float = 0.1
    backbone_scope: Literal["trunk", "whole"] = "trunk"
    adapter_factor: float = 1.0
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    undecayed: list[str] | None = None
    final_weight_decay: float | None = None
    warmup: float = 0.0
    power: float = 0.9
    min_learning_rate: float = 0.0
    schedule: Schedule = "poly"
    milestones: list[float] | None = None
    drop: float = 0.1
    clip_norm: float | None = 0.01
    ema_decay: float | None = None
    ema_start: float = 0.0
    trained: list[str] | None = None
    precision: Precision = "32-true"
    validate_every: int = 0
    save_every: int = 500
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise RecipeError(f"training.{name} is {getattr(self, name)}, but must be at least 1.")
        if not 0 <= self.warmup < 1:
            raise RecipeError(f"training.warmup is {self.warmup}, but is a share of the steps: 0 ≤ warmup < 1.")
        if self.milestones is not None:
            check_milestones(self.milestones, "training.milestones")
            if self.schedule != "poly":
                raise RecipeError(f"training.milestones and schedule {self.schedule} contradict each other; give one.")
        if not 0 <= self.ema_start < 1:
            raise RecipeError(f"training.ema_start is {self.ema_start}, but is a share of the steps: 0 ≤ start < 1.")
        if self.final_weight_decay is not None and not 0 <= self.final_weight_decay <= self.weight_decay:
            raise RecipeError(
                f"training.final_weight_decay is {self.final_weight_decay}, but is what weight_decay "
                f"({self.weight_decay}) falls to: from 0 to that."
            )
        if not 0 <= self.min_learning_rate <= self.learning_rate:
            raise RecipeError(
                f"training.min_learning_rate is {self.min_learning_rate}, but is what learning_rate "
                f"({self.learning_rate}) falls to: from 0 to that."
            )
        if not 0 < self.layer_decay <= 1:
            raise RecipeError(f"training.layer_decay is {self.layer_decay}, but must lie in (0, 1].")


@dataclass(frozen=True)
class ContinualSettings:
    """How a model learns classes step by step; every step is an ordinary run with a recipe of its own.

    classes_per_step   classes of each step, which add up to all classes; or
    groups             name of a step → its class names or label ids
    order              in which `classes_per_step` takes the classes: of the table, random, or a list of all of them
    order_seed         of a random order; None: the recipe's seed
    protocol           which images a step sees, all with a pixel of its classes: "overlapped", whatever else is in
                       them; "disjoint", no class of later steps; "sequential", as disjoint, and the labels of earlier
                       steps' classes stay as well. All other labels are removed (255).
    label_upper_bound  "leaky": the first class of the next step stays labelled, as in the official semantic
                       experiments; "strict": it does not
    unseen_segments    panoptic validation removes segments of classes that are still to come; "counted": what is
                       predicted there is wrong, as in the official experiments; "void": it does not count
    steps_per_class    optimiser steps of the second and all later steps, for each of their classes; the first one
                       takes training.steps
    learning_rate      of the second and all later steps, and so milestones and warmup; None: those of `training`
    objectives         that join from the second step on, in front of those of every step, which see the targets that
                       these complete
    replay             images of all earlier steps that are kept, with their labels of then, and shown again; 0: none
    joint              all classes in one step, measured in the same groups: the upper bound
    trained            what of the model learns from the second step on, e.g. [queries, decoder.heads]; None: everything

    Parts and objectives that have options of these names get them in each step: old_classes, current_classes (label
    ids), bank, distribution (files), step_number.

    Source: SimCIS (CVPR 2025) §5.1 and supplement; PLOP and MiB for the protocols.
    """

    classes_per_step: list[int] | None = None
    groups: dict[str, list[str | int]] | None = None
    order: Order = "table"
    order_seed: int | None = None
    protocol: Literal["overlapped", "disjoint", "sequential"] = "overlapped"
    label_upper_bound: Literal["strict", "leaky"] = "strict"
    unseen_segments: Literal["counted", "void"] = "counted"
    steps_per_class: int = 1000
    learning_rate: float | None = None
    milestones: list[float] | None = None
    warmup: float | None = None
    objectives: Mapping[str, Callable[[Dims], Objective]] = field(default_factory=dict)
    replay: int = 0
    joint: bool = False
    trained: list[str] | None = None

    def check(self) -> None:
        """Raises: RecipeError. Not when it is made: what reads recipes would take that for a value of another kind."""
        if (self.classes_per_step is None) == (self.groups is None):
            raise RecipeError("continual needs either classes_per_step, e.g. [100, 10, 10], or groups; give one.")
        if self.groups is not None and self.order != "table":
            raise RecipeError("continual.groups says itself in which order classes come; leave out continual.order.")
        if self.steps_per_class < 1:
            raise RecipeError(f"continual.steps_per_class is {self.steps_per_class}, but must be at least 1.")
        if self.replay < 0:
            raise RecipeError(f"continual.replay is {self.replay}, but is a number of images, 0 or more.")
        if self.milestones is not None:
            check_milestones(self.milestones, "continual.milestones")

    def split(self, classes: ClassTable, seed: int) -> ClassSplit:
        """seed: the recipe's. Raises: RecipeError"""
        if self.groups is not None:
            return split_by_name(classes, self.groups)
        assert self.classes_per_step is not None
        drawn_by = seed if self.order_seed is None else self.order_seed
        return split_by_size(classes, self.classes_per_step, self.order, drawn_by)


def check_milestones(milestones: list[float], where: str) -> None:
    """Raises: RecipeError"""
    if sorted(milestones) != milestones or any(not 0 < share < 1 for share in milestones):
        raise RecipeError(f"{where} is {milestones}, but holds shares of the steps in order, as in [0.85, 0.95].")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, besides the machine.

    classes     name of a class table ("cityscapes", "camvid"), a list of class names in label order, or a mapping with
                `names`, `colors` and `things` (see `class_table`)
    model       the parts
    objectives  name → training objective
    continual   learns the classes step by step; None: all at once
    """

    classes: str | list[str] | dict[str, Any]
    model: Parts
    objectives: Mapping[str, Callable[[Dims], Objective]]
    data: DataSettings
    training: TrainingSettings = field(default_factory=TrainingSettings)
    seed: int = 0
    continual: ContinualSettings | None = None

    def __post_init__(self) -> None:
        if self.continual is not None:
            self.continual.check()

    @property
    def class_table(self) -> ClassTable:
        return class_table(self.classes)
