"""Shape legend: B = 2 images, N = 5 queries, K = 4 classes, D = 8 width."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.decoders import BoxHeads
from queryseg.errors import RecipeError
from queryseg.objectives import ConsistentSelection
from queryseg.objectives.consistent_selection import divergence
from queryseg.queries.pixel_selected import FIRST_BOXES
from queryseg.types import Dims, Features, Output, Prediction, Queries, Trunk

DIMS = Dims(tuple("abcd"), 8, 1, (8,), (8,), 8, 8)
FEATURES = Features(Trunk(torch.zeros(2, 0, 8), (0, 0)), (), torch.zeros(2, 8, 2, 2))


def reading(num_queries: int = 5) -> Prediction:
    logits, nothing = torch.randn(2, num_queries, 4), torch.zeros(2, num_queries, 0)
    return Prediction(logits, logits.sigmoid(), nothing, nothing, None, nothing, torch.rand(2, num_queries, 4))


class Model:
    """A student or its predecessor, which also stands for the step that names it."""

    def __init__(self, num_queries: int = 5) -> None:
        self.heads = BoxHeads(DIMS)
        self.queries = Queries(torch.randn(2, num_queries, 8), extras={"selected_indices": torch.arange(5)})
        self.readings = [reading(num_queries), reading(num_queries)]
        self.decoded: list[Queries] = []
        self.model = self

    def output(self, like: Queries | None = None) -> Output:
        return Output(FEATURES, self.queries, self.readings)

    def make_queries(self, features: Features, like: Queries | None = None) -> Queries:
        assert like is not None
        assert features is FEATURES
        return self.queries

    def decode(self, features: Features, queries: Queries) -> Output:
        self.decoded.append(queries)
        return self.output()

    def reference(self, name: str) -> Model:
        assert name == "previous_task"
        return self.teacher

    teacher: Model


def run(**options: Any) -> tuple[dict[str, Tensor], Model]:
    torch.manual_seed(0)
    student = Model()
    student.teacher = Model()
    return ConsistentSelection(DIMS, **options).losses(student.output(), [], student), student  # type: ignore[arg-type]


def expected(student: Model, classes: list[int]) -> tuple[Tensor, Tensor]:
    teacher = student.teacher
    selection = [m.heads.classify(m.queries.content)[..., classes] for m in (teacher, student)]
    decoder = [m.readings[-1].class_logits[..., classes] for m in (teacher, student)]
    found = []
    for past, now in (selection, decoder):
        p, q = past.softmax(-1), now.softmax(-1)
        found.append((p * (p / q).log()).sum() / 2)
    return found[0], found[1]


def test_the_official_sums() -> None:
    terms, student = run()
    selection, decoder = expected(student, [0, 1, 2, 3])
    torch.testing.assert_close(terms["selection"], selection)
    torch.testing.assert_close(terms["decoder"], decoder)


def test_the_papers_mean_over_pixels_changes_the_selection_alone() -> None:
    terms, student = run(csl_reduction="position")
    selection, decoder = expected(student, [0, 1, 2, 3])
    torch.testing.assert_close(terms["selection"], selection / 5)
    torch.testing.assert_close(terms["decoder"], decoder)


def test_the_papers_old_classes_in_any_order() -> None:
    terms, student = run(csl_classes="old", old_classes=[3, 1])
    selection, decoder = expected(student, [1, 3])
    torch.testing.assert_close(terms["selection"], selection)
    torch.testing.assert_close(terms["decoder"], decoder)


def test_without_distillation_the_decoder_does_not_run_again() -> None:
    terms, student = run(decoder_kd=False)
    assert terms.keys() == {"selection"}
    assert not student.decoded
    assert ConsistentSelection(DIMS, decoder_kd=False).weights == {"selection": 2.0}


def test_boxes_of_the_second_pass() -> None:
    _, student = run()
    assert torch.equal(student.decoded[0].extras[FIRST_BOXES], student.readings[0].boxes)  # type: ignore[arg-type]
    _, student = run(kd_boxes="teacher")
    assert FIRST_BOXES not in student.decoded[0].extras


def test_the_teacher_gets_no_gradient_and_the_student_does() -> None:
    terms, student = run()
    terms["selection"].backward()
    assert student.heads.class_embed.weight.grad is not None
    assert student.teacher.heads.class_embed.weight.grad is None


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_temperatures(temperature: float) -> None:
    teacher, student = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    torch.testing.assert_close(divergence(teacher, student, temperature), (p * (p / q).log()).sum() / 2)
    assert float(divergence(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-6)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"compares old classes .* but old_classes is empty"):
        ConsistentSelection(DIMS, csl_classes="old")
    with pytest.raises(RecipeError, match="old_classes names 4; give class indices from 0 to 3, each once"):
        ConsistentSelection(DIMS, old_classes=[0, 4])
    with pytest.raises(RecipeError, match="old_classes names a class twice"):
        ConsistentSelection(DIMS, old_classes=[1, 1])
    with pytest.raises(RecipeError, match=r"temperatures are 1\.0 and 0; give numbers above 0"):
        ConsistentSelection(DIMS, decoder_temperature=0)
    student = Model(4)
    student.teacher = Model()
    student.make_queries = lambda features, like=None: student.teacher.queries  # type: ignore[method-assign]
    with pytest.raises(RecipeError, match="give both the same num_queries, or set kd_boxes to 'teacher'"):
        ConsistentSelection(DIMS).losses(student.output(), [], student)  # type: ignore[arg-type]
