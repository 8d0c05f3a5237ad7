"""tqdm's losses and regularizers equal golden numbers of the authors' modules in float64, gradients included.

`tqdm/dev.json` draws weights and inputs and names every output in `tqdm/dev.npz`; keys begin with the case. Points,
which the authors draw at random, are inputs of the fixture and are handed to the criterion in place of `torch.rand`.

Shape legend: B images, K classes = queries, J width of the image–text space, h×w a grid, H×W pixels, P points.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from queryseg.contracts import Step
from queryseg.objectives import FixedAssignment, SetCriterion, TextRegularizers
from queryseg.objectives.text_regularizers import text_cosines
from queryseg.types import Dims, Features, Joint, Output, Prediction, Queries, Target, Trunk

FOLDER = Path(__file__).with_name("tqdm")
TOLERANCE = {"rtol": 1e-8, "atol": 1e-8}
NO_TRUNK = cast(Trunk, None)
TERMS = ("language", "vision_language", "vision")


class Case:
    """One case of the fixture, its inputs redrawn as the manifest says."""

    def __init__(self, name: str) -> None:
        manifest: dict[str, Any] = json.loads((FOLDER / "dev.json").read_text())
        case = manifest["cases"][name]
        with np.load(FOLDER / "dev.npz") as stored:
            self.gold = {
                key.removeprefix(f"{name}."): torch.from_numpy(stored[key])
                for key in stored.files
                if key.startswith(f"{name}.")
            }
        self.settings = case["constructor"]
        draw = np.random.Generator(np.random.PCG64(manifest["seed"]))
        self.leaves: dict[str, Tensor] = {}
        for entry in case["weights"] + case["inputs"]:
            value = draw.standard_normal(entry["shape"]) * entry["scale"] + entry["offset"]
            assert abs(value.sum() - entry["sum"]) < 1e-8 * max(1, abs(entry["sum"])), entry["name"]
            self.leaves[entry["name"]] = torch.from_numpy(value)
        num_classes, block = self.settings["num_classes"], case["label_block"]
        labels = (10 * self.leaves["label_noise"].abs()).floor().long()
        labels[labels >= num_classes] = 255
        label_maps = labels.repeat_interleave(block, 1).repeat_interleave(block, 2)
        self.targets = [Target.semantic(label_map) for label_map in label_maps]
        self.dims = Dims(tuple(map(str, range(num_classes))), 0, 0, (), (), 0, 0)

    def check(self, name: str, value: Tensor) -> None:
        torch.testing.assert_close(value.detach(), self.gold[name], **TOLERANCE, msg=lambda text: f"{name}: {text}")


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
        self.features = Features(NO_TRUNK, (), whole, joint=Joint(whole, whole))


class Regularized:
    """The case's embeddings as a model would give them, and what the objective makes of them."""

    def __init__(self, **options: float) -> None:
        self.case = case = Case("regularizers")
        self.t, self.v, g = (case.leaves[name].requires_grad_() for name in ("t", "v", "g"))
        self.g = g
        features = Features(NO_TRUNK, (), self.v, joint=Joint(g[:, 0], self.v), context=self.t)
        raw = case.leaves["t0_raw"]
        texts = Texts(raw / raw.norm(dim=-1, keepdim=True))
        self.asked: list[str] = []

        def reference(name: str) -> Initial:
            self.asked.append(name)
            return Initial(case.leaves["g0"][:, 0])

        step = Step(0, 1, g, cast(Any, texts), cast(Any, reference))
        self.objective = TextRegularizers(case.dims, **options)
        self.terms = self.objective.losses(Output(features, Queries(self.t), ()), case.targets, step)


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
    case.check("grad_t", by_term[0][0] + by_term[1][0])


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
        noises = (case.leaves[name] for name in ("candidate_noise", "random_noise"))
        self.sets = [torch.remainder(1000 * noise.abs(), 1) for noise in noises]
        self.turns = self._turns()

    def _turns(self) -> Iterator[Tensor]:
        while True:
            yield from self.sets

    def __call__(self, *shape: int, **options: Any) -> Tensor:
        points = next(self.turns)
        assert points.shape == shape
        return points


def criterion(case: Case) -> SetCriterion:
    made = case.settings
    return SetCriterion(
        case.dims,
        FixedAssignment,
        no_object_weight=made["class_weight"][-1],
        num_points=made["num_points"],
        oversample_ratio=made["oversample_ratio"],
        importance_ratio=made["importance_sample_ratio"],
    )


def readings(class_logits: Tensor, mask_logits: Tensor) -> list[Prediction]:
    """class_logits (L, B, K, K+1), mask_logits (L, B, K, h, w)"""
    return [
        Prediction(logits, logits.softmax(-1)[..., :-1], masks, masks, masks, masks)
        for logits, masks in zip(class_logits, mask_logits, strict=True)
    ]


def losses(case: Case, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """(L, 3) class, mask and dice of every reading, weighted"""
    objective, found = criterion(case), []
    monkeypatch.setattr(torch, "rand", Points(case))
    for prediction in predictions:
        output = Output(cast(Features, None), cast(Queries, None), [prediction])
        terms = objective.losses(output, case.targets, cast(Step, None))
        found.append(torch.stack([objective.weights[name] * terms[name] for name in ("class", "mask", "dice")]))
    return torch.stack(found)


def test_class_losses_of_every_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("head")
    logits = case.gold["cls_logits"]
    nothing = torch.zeros(*logits.shape[:3], 4, 4, dtype=torch.float64)
    found = losses(case, readings(logits, nothing), monkeypatch)
    torch.testing.assert_close(found[:, 0], case.gold["losses"][:, 0], **TOLERANCE)
    assert found[:, 0].unique().numel() == len(logits)


def test_positive_masks_come_image_after_image_with_classes_ascending() -> None:
    """The order that the fixture's points are listed in; ignored pixels belong to no mask."""
    case = Case("head")
    assert [len(target.labels) for target in case.targets] == [13, 12]
    assert sum(len(target.labels) for target in case.targets) == len(case.leaves["candidate_noise"])
    for target in case.targets:
        assert target.labels.tolist() == sorted(target.labels.tolist())
        assert not target.masks[:, target.label_map == 255].any()
