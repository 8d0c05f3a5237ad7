"""One training step, the same for every method.

Shape legend: B images, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from queryseg.contracts import Objective, Part, Step, check_parts
from queryseg.data.batch import Batch
from queryseg.errors import RecipeError
from queryseg.segmenter import Segmenter
from queryseg.training.references import References, shared_prefix
from queryseg.types import Dims, Queries, Target, Task


class TrainingStep(nn.Module):
    """Batch → losses. A module of its own, so that whatever wraps it (distributed training, autocast) sees one forward
    pass with tensors in and out. Under autocast the objectives run inside it and turn to float32 where they need it.

    steps: of the whole run.
    """

    if TYPE_CHECKING:

        def __call__(self, batch: Batch, index: int) -> dict[str, Tensor]: ...

    def __init__(
        self, model: Segmenter, objectives: Mapping[str, Objective], references: References, steps: int
    ) -> None:
        super().__init__()
        self.model, self.references, self.steps = model, references, steps
        self.objectives = nn.ModuleDict(dict(objectives))
        self.step: Step | None = None

    def named_objectives(self) -> dict[str, Objective]:
        """In the order of the recipe."""
        return cast("dict[str, Objective]", dict(self.objectives.items()))

    def forward(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """index: optimiser steps already taken. Returns the weighted sum as "loss", in the graph, and every unweighted
        term as "objective/term", detached."""
        model, objectives = self.model, self.named_objectives()
        for part in (*model.parts().values(), *objectives.values()):
            part.schedule(index / self.steps)
        images = model.normalise(batch.images)
        targets = padded_targets(batch, images.shape[-2], images.shape[-1])
        prefix = shared_prefix(model, images)
        step = self.step = Step(index, self.steps, images, model, self.references.at(images, prefix))

        def prepare(queries: Queries) -> Queries:
            nonlocal targets
            for objective in objectives.values():
                queries, targets = objective.prepare(queries, targets, step)
            return queries

        output = model(images, prepare, prefix)
        terms = {name: objective.losses(output, targets, step) for name, objective in objectives.items()}
        losses = {"loss": images.new_zeros(())}
        for name, found in terms.items():
            for term, value in found.items():
                if term not in objectives[name].statistics:
                    losses["loss"] = losses["loss"] + objectives[name].weights[term] * value
                losses[f"{name}/{term}"] = value.detach()
        return losses

    def after_step(self) -> None:
        """After the optimiser moved; with accumulation, objectives see the last micro-batch's step."""
        assert self.step is not None
        self.references.update()
        for objective in self.named_objectives().values():
            objective.after_step(self.step)
        self.step = None  # frees the images and what the references said of them


def padded_targets(batch: Batch, canvas_height: int, canvas_width: int) -> list[Target]:
    """Targets that cover the canvas of the normalised images; what was added is ignored."""
    if batch.label_maps.shape[-2:] == (canvas_height, canvas_width):
        return batch.targets()
    return batch.padded(canvas_height, canvas_width).targets()


def build_objectives(
    model: Segmenter,
    makers: Mapping[str, Callable[[Dims], Objective]],
    given: frozenset[str] = frozenset(),
    task: Task = "semantic",
) -> dict[str, Objective]:
    """given: references that come from outside ("previous_task").

    Raises: RecipeError
    """
    objectives = {name: make(model.dims) for name, make in makers.items()}
    if not objectives:
        raise RecipeError("recipe.objectives is empty, so there is nothing to learn; add one, e.g. the set criterion.")
    parts: dict[str, Part] = {**model.parts(), **objectives}
    check_parts(parts)
    for role, part in parts.items():
        if task != "semantic" and "class_rows" in part.provides | part.requires:
            raise RecipeError(
                f"{role} {type(part).__name__} has one row per class, which cannot tell objects apart as data.task "
                f"{task} asks; use queries that are matched by cost, or data.task semantic."
            )
    for name, objective in objectives.items():
        for need in sorted(objective.references - {"ema", "frozen"} - given):
            raise RecipeError(
                f"objectives.{name} {type(objective).__name__} compares with '{need}', which was not given; pass the "
                "run of the task before, or leave the objective out for the first task."
            )
    return objectives
