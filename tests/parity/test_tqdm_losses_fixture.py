"""tqdm's losses and regularizers equal golden numbers of the authors' modules in float64, gradients included.

`tqdm/dev.json` draws weights and inputs and names every output in `tqdm/dev.npz`; keys begin with the case. Points,
which the authors draw at random, are inputs of the fixture and are handed to the criterion in place of `torch.rand`.

Shape legend: B images, K classes = queries, J width of the image–text space, h×w a grid, H×W pixels, P points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from test_tqdm_fixture import STRIDES, Case, Head, label_map
from torch import Tensor

from queryseg.contracts import Step
from queryseg.objectives import FixedAssignment, SetCriterion, TextRegularizers
from queryseg.objectives.text_regularizers import text_cosines
from queryseg.types import Dims, Features, Joint, Output, Queries, Target, Trunk

NO_TRUNK, NO_STEP = cast(Trunk, None), cast(Step, None)
TERMS = ("language", "vision_language", "vision")


def targets_of(case: Case) -> list[Target]:
    return [Target.semantic(one) for one in label_map(case)]


def dims_of(case: Case) -> Dims:
    return Dims(tuple(map(str, range(case.settings["num_classes"]))), 0, 0, (), (), 0, 0)


def sums(gradient: Tensor | None) -> Tensor:
    """(3,) sum, sum of absolute values, greatest absolute value"""
    if gradient is None:
        return torch.zeros(3, dtype=torch.float64)
    return torch.stack((gradient.sum(), gradient.abs().sum(), gradient.abs().max()))


# ───────────────────────────── regularizers ─────────────────────────────


class Texts:
    """Stands for the model and its queries, of which only the frozen encodings of class names are read."""

    def __init__(self, encodings: Tensor) -> None:
        self.queries, self.encodings = self, encodings

    def encode_names(self, template: str) -> Tensor:
        return self.encodings


class Initial:
    """Stands for the frozen reference, of which only the embedding of the whole image is read."""

    def __init__(self, whole: Tensor) -> None:
        self.joint = Joint(whole, whole)


class Regularized:
    """The case's embeddings as a model would give them, and what the objective makes of them."""

    def __init__(self, **options: float) -> None:
        self.case = case = Case("regularizers")
        self.t, self.v, g = (case.leaves[name] for name in ("t", "v", "g"))
        self.g = g
        features = Features(NO_TRUNK, (), self.v, joint=Joint(g[:, 0], self.v), context=self.t)
        raw = case.leaves["t0_raw"].detach()
        texts = Texts(raw / raw.norm(dim=-1, keepdim=True))
        self.asked: list[str] = []

        def reference(name: str) -> Initial:
            self.asked.append(name)
            return Initial(case.leaves["g0"].detach()[:, 0])

        step = Step(0, 1, g, cast(Any, texts), cast(Any, reference))
        self.objective = TextRegularizers(dims_of(case), **options)
        self.terms = self.objective.losses(Output(features, Queries(self.t), ()), targets_of(case), step)


@pytest.fixture(scope="module")
def regularized() -> Regularized:
    return Regularized()


def test_regularizers(regularized: Regularized) -> None:
    case, terms = regularized.case, regularized.terms
    assert case.settings["tau"] == regularized.objective.temperature
    case.check("loss_language", terms["language"])
    case.check("loss_vision_language", terms["vision_language"])
    case.check("loss_vision", terms["vision"])
    case.check("score_map", text_cosines(regularized.v, regularized.t))
    assert regularized.objective.weights == dict.fromkeys(TERMS, 1.0)


def test_gradients_of_the_regularizers(regularized: Regularized) -> None:
    case, leaves = regularized.case, (regularized.t, regularized.v, regularized.g)
    by_term = [
        torch.autograd.grad(regularized.terms[term], leaves, retain_graph=True, allow_unused=True) for term in TERMS
    ]
    case.check("grads", torch.stack([torch.stack([sums(gradient) for gradient in row]) for row in by_term]))
    case.check("grad_t", cast(Tensor, by_term[0][0]) + cast(Tensor, by_term[1][0]))


def test_a_term_without_weight_costs_nothing() -> None:
    without = Regularized(vision_weight=0)
    assert without.terms.keys() == without.objective.weights.keys() == {"language", "vision_language"}
    assert without.asked == []
    assert not without.objective.references
    assert Regularized(language_weight=0, vision_language_weight=0.5).objective.weights == {
        "vision_language": 0.5,
        "vision": 1.0,
    }


# ───────────────────────────── losses of the head ─────────────────────────────


class Points:
    """Hands out the fixture's points where the criterion asks for random ones: candidates, then the rest."""

    def __init__(self, case: Case) -> None:
        noises = (case.leaves[name].detach() for name in ("candidate_noise", "random_noise"))
        self.sets = [torch.remainder(1000 * noise.abs(), 1) for noise in noises]
        self.turns = self._turns()

    def _turns(self) -> Iterator[Tensor]:
        while True:
            yield from self.sets

    def __call__(self, *shape: int, **options: Any) -> Tensor:
        points = next(self.turns)
        assert points.shape == shape
        return points


def losses(head: Head, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """(L, 3) class, mask and dice of every reading, weighted"""
    case, made = head.case, head.case.settings
    objective = SetCriterion(
        dims_of(case),
        FixedAssignment,
        no_object_weight=made["class_weight"][-1],
        num_points=made["num_points"],
        oversample_ratio=made["oversample_ratio"],
        importance_ratio=made["importance_sample_ratio"],
    )
    monkeypatch.setattr(torch, "rand", Points(case))
    found = []
    for prediction in head.predictions:
        terms = objective.losses(Output(head.features, head.queries, [prediction]), targets_of(case), NO_STEP)
        found.append(torch.stack([objective.weights[name] * terms[name] for name in ("class", "mask", "dice")]))
    return torch.stack(found)


def test_losses_of_every_reading_and_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head()
    found = losses(head, monkeypatch)
    head.case.check("losses", found)
    inputs = [head.case.leaves[name] for name in ("texts", *(f"feat_{stride}" for stride in reversed(STRIDES)))]
    rows = torch.stack([sums(gradient) for gradient in torch.autograd.grad(found.sum(), inputs)])
    gold = torch.from_numpy(head.case.gold["loss_grads"])
    assert bool(((rows - gold).abs().amax(1) <= 1e-8 * (1 + gold[:, 1])).all())
    assert bool((gold[:, 1] > 1e-3).all())


def test_positive_masks_come_image_after_image_with_classes_ascending() -> None:
    """The order that the fixture's points are listed in; ignored pixels belong to no mask."""
    case = Case("head")
    targets = targets_of(case)
    assert [len(target.labels) for target in targets] == case.case["health"]["classes_present"] == [13, 12]
    for target in targets:
        assert target.labels.tolist() == sorted(target.labels.tolist())
        assert not target.masks[:, target.label_map == 255].any()
    assert any((target.label_map == 255).any() for target in targets)
