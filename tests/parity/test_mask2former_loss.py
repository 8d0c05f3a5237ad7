"""The criterion equals Hugging Face's Mask2Former loss at the same points, in float64.

Shape legend: L supervised readings, B images, Q queries, K classes, M segments of one image, P points.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from queryseg.objectives.matching import Hungarian, Segments
from queryseg.objectives.set_criterion import SetCriterion
from queryseg.types import Dims, Features, Output, Prediction, Queries, Target, Trunk

pytest.importorskip("transformers")
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

B, Q, K, P, L = 3, 8, 5, 160, 4
OVERSAMPLED, UNCERTAIN = 3 * P, 3 * P // 4
TOLERANCE = {"rtol": 0.0, "atol": 1e-8}


def reading(mask_logits: Tensor, class_logits: Tensor) -> Prediction:
    scores = class_logits.softmax(-1)[..., :-1]
    nothing = mask_logits.new_zeros(B, Q, 0)
    return Prediction(class_logits, scores, mask_logits, nothing, mask_logits, nothing)


def output_of(predictions: list[Prediction]) -> Output:
    empty = torch.zeros(B, 0, 0)
    return Output(Features(Trunk(empty, (0, 0)), (), empty), Queries(empty), predictions)


class Case:
    """Random readings of random segments; both sides get copies of the same logits and the same points."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        generator = torch.Generator().manual_seed(sum(counts))
        rand = {"generator": generator, "dtype": torch.float64}
        self.mask_logits = [3 * torch.randn(B, Q, 12, 20, **rand) for _ in range(L)]
        self.class_logits = [2 * torch.randn(B, Q, K + 1, **rand) for _ in range(L)]
        self.targets = [
            Target(
                torch.randint(K, (m,), generator=generator),
                torch.rand(m, 48, 80, **rand) > 0.7,
                torch.zeros(48, 80, dtype=torch.int64),
            )
            for m in counts
        ]
        num_pairs = sum(min(Q, m) for m in counts)
        self.matching = [torch.rand(B, P, 2, **rand) for _ in range(L)]
        self.loss = [
            (torch.rand(num_pairs, OVERSAMPLED, 2, **rand), torch.rand(num_pairs, P - UNCERTAIN, 2, **rand))
            for _ in range(L)
        ]

    def leaves(self) -> tuple[list[Tensor], list[Tensor]]:
        return [x.clone().requires_grad_() for x in self.mask_logits], [
            x.clone().requires_grad_() for x in self.class_logits
        ]

    def our_points(self) -> Iterator[Tensor]:
        yield from self.matching
        for draw in self.loss:
            yield from draw

    def their_points(self) -> Iterator[Tensor]:
        for index in (L - 1, *range(L - 1)):  # the last reading first, then the auxiliary ones
            yield from self.matching[index].split(1)
            yield from self.loss[index]


def replay(monkeypatch: pytest.MonkeyPatch, points: Iterator[Tensor]) -> None:
    def rand(*shape: int, **_: object) -> Tensor:
        drawn = next(points)
        assert drawn.shape == shape
        return drawn

    monkeypatch.setattr(torch, "rand", rand)


def reference() -> Mask2FormerLoss:
    return Mask2FormerLoss(Mask2FormerConfig(num_labels=K, train_num_points=P), {}).double()


def criterion() -> SetCriterion:
    dims = Dims(tuple("abcde"), embed=0, depth=0, channels=(), strides=(), mask_channels=0, width=0)
    return SetCriterion(dims, lambda: Hungarian(num_points=P), num_points=P)


COUNTS = pytest.mark.parametrize("counts", [(3, 5, 1), (2, 0, 4), (11, 3, 8)], ids=["usual", "empty", "crowded"])


@COUNTS
def test_assignments(counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(counts)
    replay(monkeypatch, iter(case.matching))
    segments = Segments.of(case.targets)
    ours = Hungarian(num_points=P).match(
        [reading(m, c) for m, c in zip(case.mask_logits, case.class_logits, strict=True)], segments
    )
    offsets = torch.tensor([0, *counts]).cumsum(0)
    for index, pairs in enumerate(ours):
        replay(monkeypatch, iter(case.matching[index].split(1)))
        theirs = reference().matcher(
            case.mask_logits[index],
            case.class_logits[index],
            [t.masks.double() for t in case.targets],
            [t.labels for t in case.targets],
        )
        for image, (rows, columns) in enumerate(theirs):
            here = pairs.image == image
            assert pairs.row[here].tolist() == rows.tolist()
            assert (pairs.target[here] - offsets[image]).tolist() == columns.tolist()


@COUNTS
def test_losses_and_gradients(counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    case, ours, theirs = Case(counts), criterion(), reference()
    masks, classes = case.leaves()
    predictions = [reading(m, c) for m, c in zip(masks, classes, strict=True)]
    replay(monkeypatch, case.our_points())
    losses = ours.losses(output_of(predictions), case.targets, step=None)  # type: ignore[arg-type]

    their_masks, their_classes = case.leaves()
    replay(monkeypatch, case.their_points())
    auxiliary = [
        {"masks_queries_logits": m, "class_queries_logits": c}
        for m, c in zip(their_masks[:-1], their_classes[:-1], strict=True)
    ]
    expected = theirs(
        their_masks[-1],
        their_classes[-1],
        [t.masks.double() for t in case.targets],
        [t.labels for t in case.targets],
        auxiliary,
    )
    assert len(expected) == 3 * L
    names = {"class": "loss_cross_entropy", "mask": "loss_mask", "dice": "loss_dice"}
    for name, theirs_name in names.items():
        same = sum(value for key, value in expected.items() if key.startswith(theirs_name))
        torch.testing.assert_close(losses[name], same, **TOLERANCE)

    torch.stack([ours.weights[name] * value for name, value in losses.items()]).sum().backward()
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    torch.stack([weights[key.rstrip("_0123456789")] * value for key, value in expected.items()]).sum().backward()
    for mine, other in zip(masks + classes, their_masks + their_classes, strict=True):
        assert other.grad is not None
        assert other.grad.abs().max() > 1e-4
        torch.testing.assert_close(mine.grad, other.grad, **TOLERANCE)
