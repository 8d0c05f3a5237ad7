"""The model keeps seeing in pixels what its predecessor saw there.

Shape legend: B images, N selected queries, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.errors import RecipeError
from queryseg.full_precision import at_least_float32, full_precision
from queryseg.objectives.class_indices import check_classes
from queryseg.types import Dims, Output, Queries, Target


class ConsistentSelection(Objective):
    """Distils the model of the task before at the pixels which that one selected: what the class layer says of them
    before the decoder (consistent selection loss), and what it says of the queries that they become behind it.

    old_classes          class indices of the tasks before; needed by csl_classes "old"
    csl_reduction        batch: the sum over pixels and classes per image (the authors' code); position: the mean over
                         pixels (the paper), as many times smaller as queries are selected
    csl_classes          classes that the distributions are over. all: all of the head (the code); old: old_classes (the
                         paper)
    decoder_kd           also distil what the decoder ends with, by a second pass of it (the code; the paper has none)
    kd_boxes             boxes with which that pass begins. student: those of the pixels that this model selected (the
                         code); teacher: those of the pixels which are distilled
    temperature          of the selection's distributions
    decoder_temperature  of the decoder's
    *_weight             of the terms in the training loss

    Source: SimCIS (CVPR 2025) §4.2, Eq. 4–5; spec §2, §8.
    """

    requires = frozenset({"selected_indices", "sigmoid_classes"})
    references = frozenset({"previous_task"})

    def __init__(
        self,
        dims: Dims,
        old_classes: Sequence[int] = (),
        csl_reduction: Literal["batch", "position"] = "batch",
        csl_classes: Literal["all", "old"] = "all",
        decoder_kd: bool = True,
        kd_boxes: Literal["student", "teacher"] = "student",
        temperature: float = 1.0,
        decoder_temperature: float = 1.0,
        selection_weight: float = 2.0,
        decoder_weight: float = 2.0,
    ) -> None:
        super().__init__()
        check_classes("ConsistentSelection: old_classes", old_classes, dims)
        if csl_classes == "old" and not old_classes:
            raise RecipeError("ConsistentSelection compares old classes (csl_classes: old), but old_classes is empty.")
        if min(temperature, decoder_temperature) <= 0:
            raise RecipeError(
                f"ConsistentSelection's temperatures are {temperature} and {decoder_temperature}; give numbers above 0."
            )
        self.weights = {"selection": selection_weight} | ({"decoder": decoder_weight} if decoder_kd else {})
        self.classes = list(old_classes) if csl_classes == "old" else None
        self.csl_reduction, self.decoder_kd, self.kd_boxes = csl_reduction, decoder_kd, kd_boxes
        self.temperature, self.decoder_temperature = temperature, decoder_temperature

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        reference = step.reference("previous_task")
        teacher = reference.output()
        queries = step.model.make_queries(output.features, like=teacher.queries)
        with torch.no_grad():
            past = reference.model.heads.classify(teacher.queries.content)
        divergence = self._divergence(past, step.model.heads.classify(queries.content), self.temperature)
        if self.csl_reduction == "position":
            divergence = divergence / queries.content.shape[1]
        terms = {"selection": divergence}
        if self.decoder_kd:
            second = step.model.decode(output.features, self._with_boxes(queries, output))
            logits = second.final.class_logits
            terms["decoder"] = self._divergence(teacher.final.class_logits, logits, self.decoder_temperature)
        return terms

    def _divergence(self, teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
        if self.classes is not None:
            teacher, student = teacher[..., self.classes], student[..., self.classes]
        return divergence(teacher, student, temperature)

    def _with_boxes(self, queries: Queries, output: Output) -> Queries:
        if self.kd_boxes == "teacher":
            return queries
        own = output.predictions[0].boxes
        assert own is not None  # queries that are selected from pixels have boxes
        if own.shape[1] != queries.content.shape[1]:
            raise RecipeError(
                f"The model of the task before selects {queries.content.shape[1]} pixels and this one {own.shape[1]}; "
                "give both the same num_queries, or set kd_boxes to 'teacher'."
            )
        return replace(queries, extras={**queries.extras, "first_boxes": own.detach()})


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Σ KL(softmax(teacher/τ) ‖ softmax(student/τ)) / B, in float32 or better: logits (B, N, K) → scalar"""
    with full_precision(student):
        p = (at_least_float32(teacher) / temperature).log_softmax(-1)
        q = (at_least_float32(student) / temperature).log_softmax(-1)
        return F.kl_div(q, p, reduction="sum", log_target=True) / len(teacher)
