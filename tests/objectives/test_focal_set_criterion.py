"""Shape legend: B = 2 images, Q = 6 queries, K = 4 classes, H×W = 24×24 pixels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.objectives import FocalHungarian, FocalSetCriterion
from queryseg.objectives.matching import Assignment, Segments
from queryseg.types import Dims, Features, Output, Prediction, Queries, Target, Trunk

B, Q, K, SIZE = 2, 6, 4, 24
DIMS = Dims(tuple("abcd"), 0, 0, (), (), 0, 0)


def target(labels: list[int]) -> Target:
    """The i-th segment is the i-th stripe of 4 rows."""
    masks = torch.zeros(len(labels), SIZE, SIZE, dtype=torch.bool)
    for i in range(len(labels)):
        masks[i, 4 * i : 4 * i + 4] = True
    return Target(torch.tensor(labels, dtype=torch.int64), masks, torch.zeros(SIZE, SIZE, dtype=torch.int64))


TARGETS = [target([2, 0]), target([3])]


def reading(seed: int = 0, boxes: bool = True) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    rand = {"generator": generator, "dtype": torch.float64}
    masks, logits = torch.randn(B, Q, 12, 12, **rand), torch.randn(B, Q, K, **rand)
    found = torch.rand(B, Q, 4, **rand) if boxes else None
    leaves = [x.requires_grad_() for x in (masks, logits, found) if x is not None]
    assert leaves
    nothing = masks.new_zeros(B, Q, 0)
    return Prediction(logits, logits.sigmoid(), masks, nothing, None, nothing, found)


def losses(criterion: FocalSetCriterion, targets: list[Target], *predictions: Prediction) -> dict[str, Tensor]:
    empty = torch.zeros(B, 0, 0)
    output = Output(Features(Trunk(empty, (0, 0)), (), empty), Queries(empty), predictions)
    torch.manual_seed(0)
    return criterion.losses(output, targets, step=None)  # type: ignore[arg-type]


def criterion(**options: Any) -> FocalSetCriterion:
    matcher = {name: options.pop(name) for name in ("box_cost", "giou_cost") if name in options}
    return FocalSetCriterion(DIMS, lambda: FocalHungarian(num_points=32, **matcher), num_points=32, **options)


def test_terms_weights_and_requirements() -> None:
    made = criterion(class_weight=2.0)
    assert made.weights == {"class": 2.0, "mask": 5.0, "dice": 5.0, "box": 5.0, "giou": 2.0}
    assert made.requires == {"sigmoid_classes", "boxes"}
    assert losses(made, TARGETS, reading()).keys() == made.weights.keys()
    assert not made.state_dict()


def test_queries_need_no_boxes_if_nothing_asks_for_them() -> None:
    made = criterion(box_weight=0.0, giou_weight=0.0, box_cost=0.0, giou_cost=0.0)
    assert made.requires == {"sigmoid_classes"}
    assert losses(made, TARGETS, reading(boxes=False)).keys() == {"class", "mask", "dice"}


def test_the_class_loss_by_hand() -> None:
    made, found = criterion(), reading()
    (pairs,) = made.matcher.match([found], Segments.of(TARGETS))
    expected, labels = 0.0, torch.tensor([2, 0, 3])[pairs.target]
    ones = set(zip(pairs.image.tolist(), pairs.row.tolist(), labels.tolist(), strict=True))
    for place in ((b, q, k) for b in range(B) for q in range(Q) for k in range(K)):
        p = float(found.class_scores[place].detach())
        positive = place in ones
        expected += -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)
    got = made.terms(found, pairs, Segments.of(TARGETS), torch.tensor(3.0))["class"]
    assert float(got.detach()) == pytest.approx(expected / 3)


def test_the_right_answers_cost_little_and_gradients_are_finite() -> None:
    made = criterion()
    masks, logits = torch.full((B, Q, 12, 12), -20.0), torch.full((B, Q, K), -20.0)
    boxes = torch.rand(B, Q, 4)
    for image, one in enumerate(TARGETS):
        for i, label in enumerate(one.labels.tolist()):
            masks[image, i, 2 * i : 2 * i + 2] = 20
            logits[image, i, label] = 20
            boxes[image, i] = torch.tensor([0.5, (4 * i + 2) / 24, 1.0, 4 / 24])
    for leaf in (masks, logits, boxes):
        leaf.requires_grad_()
    nothing = torch.zeros(B, Q, 0)
    found = Prediction(logits, logits.sigmoid(), masks, nothing, None, nothing, boxes)
    terms = losses(made, TARGETS, found, found)
    assert all(float(terms[name].detach()) < 1e-4 for name in ("class", "box", "giou"))
    torch.stack(list(terms.values())).sum().backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in (masks, logits, boxes) if leaf.grad is not None)


def test_images_without_segments() -> None:
    for targets in ([target([]), target([])], [target([]), target([1])]):
        terms = losses(criterion(), targets, reading())
        assert all(bool(value.isfinite()) for value in terms.values())
        assert float(terms["class"].detach()) > 0


@pytest.mark.parametrize(("cost", "row"), [("class_cost", 1), ("mask_cost", 0), ("box_cost", 2), ("giou_cost", 2)])
def test_each_cost_counts(cost: str, row: int) -> None:
    masks, logits, boxes = torch.full((1, 3, 12, 12), -8.0), torch.zeros(1, 3, K), torch.full((1, 3, 4), 0.9)
    masks[0, 0, :2] = 8  # row 0 has the mask, row 1 the class, row 2 the box
    logits[0, 1, 2] = 8
    boxes[0, 2] = torch.tensor([0.5, 2 / 24, 1.0, 4 / 24])
    nothing = logits[..., :0]
    found = Prediction(logits, logits.sigmoid(), masks, nothing, None, nothing, boxes)
    costs = dict.fromkeys(("class_cost", "mask_cost", "dice_cost", "box_cost", "giou_cost"), 0.0) | {cost: 1.0}
    (pairs,) = FocalHungarian(**costs, num_points=64).match([found], Segments.of([target([2])]))
    assert isinstance(pairs, Assignment)
    assert pairs.row.tolist() == [row]
