"""Shape legend: L readings, B images, Q queries, K classes, M segments of one image."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from queryseg.objectives import matching
from queryseg.objectives.matching import FixedAssignment, Hungarian, Segments
from queryseg.types import Prediction, Target

K, SIZE = 6, 32


def quadrants(labels: list[int]) -> Target:
    """Up to four segments, one per quadrant of the image, in the order upper left, upper right, lower left, right."""
    masks = torch.zeros(len(labels), SIZE, SIZE, dtype=torch.bool)
    for index in range(len(labels)):
        rows, columns = divmod(index, 2)
        masks[index, 16 * rows : 16 * rows + 16, 16 * columns : 16 * columns + 16] = True
    return Target(torch.tensor(labels, dtype=torch.int64), masks, torch.zeros(SIZE, SIZE, dtype=torch.int64))


def answers(targets: list[Target], rows: list[list[int]], num_queries: int = 5) -> Prediction:
    """Query rows[b][m] says segment m of image b; the others say nothing."""
    logits = torch.zeros(len(targets), num_queries, K + 1)
    masks = torch.full((len(targets), num_queries, 8, 8), -8.0)
    for image, (target, places) in enumerate(zip(targets, rows, strict=True)):
        for segment, row in enumerate(places):
            logits[image, row, target.labels[segment]] = 8.0
            masks[image, row] = 16.0 * target.masks[segment, ::4, ::4] - 8
    return prediction(masks, logits)


def prediction(masks: Tensor, logits: Tensor) -> Prediction:
    nothing = masks.new_zeros(*masks.shape[:2], 0)
    return Prediction(logits, logits.softmax(-1)[..., :-1], masks, nothing, masks, nothing)


def triples(pairs: matching.Assignment) -> list[tuple[int, ...]]:
    return sorted(zip(pairs.image.tolist(), pairs.row.tolist(), pairs.target.tolist(), strict=True))


TARGETS = [quadrants([3, 1]), quadrants([]), quadrants([0, 2, 5])]


def test_segments_lie_image_after_image() -> None:
    segments = Segments.of(TARGETS)
    assert segments.labels.tolist() == [3, 1, 0, 2, 5]
    assert segments.image.tolist() == [0, 0, 2, 2, 2]
    assert segments.counts == [2, 0, 3]
    labels, masks = segments.padded()
    assert labels.shape == (3, 3)
    assert torch.equal(masks[2], TARGETS[2].masks)
    assert torch.equal(masks[0, :2], TARGETS[0].masks)


def test_hungarian_finds_the_answers_of_every_reading() -> None:
    first, second = [[4, 0], [], [1, 3, 2]], [[0, 1], [], [2, 0, 4]]
    pairs = Hungarian(num_points=64).match([answers(TARGETS, first), answers(TARGETS, second)], Segments.of(TARGETS))
    assert triples(pairs[0]) == [(0, 0, 1), (0, 4, 0), (2, 1, 2), (2, 2, 4), (2, 3, 3)]
    assert triples(pairs[1]) == [(0, 0, 0), (0, 1, 1), (2, 0, 3), (2, 2, 2), (2, 4, 4)]
    assert pairs[0].row.dtype == torch.int64


@pytest.mark.parametrize(("cost", "row"), [("class_cost", 1), ("mask_cost", 0), ("dice_cost", 0)])
def test_each_cost_counts(cost: str, row: int) -> None:
    target = quadrants([2])
    logits, masks = torch.zeros(1, 2, K + 1), torch.full((1, 2, 8, 8), -8.0)
    masks[0, 0] = 16.0 * target.masks[0, ::4, ::4] - 8  # row 0 has the mask, row 1 the class
    logits[0, 1, 2] = 8.0
    costs = {"class_cost": 0.0, "mask_cost": 0.0, "dice_cost": 0.0, cost: 1.0}
    pairs = Hungarian(**costs, num_points=64).match([prediction(masks, logits)], Segments.of([target]))
    assert pairs[0].row.tolist() == [row]


def test_more_segments_than_queries() -> None:
    targets = [quadrants([0, 1, 2, 3])]
    pairs = Hungarian(num_points=64).match([answers(targets, [[1, 0]], num_queries=2)], Segments.of(targets))
    assert triples(pairs[0]) == [(0, 0, 1), (0, 1, 0)]


def test_batch_without_segments() -> None:
    targets = [quadrants([]), quadrants([])]
    pairs = Hungarian(num_points=64).match([answers(targets, [[], []])] * 2, Segments.of(targets))
    assert [triples(p) for p in pairs] == [[], []]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_query_is_matched(value: float) -> None:
    broken = answers(TARGETS, [[4, 0], [], [1, 3, 2]])
    broken.mask_logits[2, 4] = value
    pairs = Hungarian(num_points=64).match([broken], Segments.of(TARGETS))
    assert (2, 4) in {(image, row) for image, row, _ in triples(pairs[0])}


class Waits(TorchDispatchMode):
    """Operations that make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name.startswith(("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero")):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_one_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    crossings: list[torch.Size] = []
    solved: list[tuple[int, ...]] = []
    cpu, solve = Tensor.cpu, matching.linear_sum_assignment
    monkeypatch.setattr(Tensor, "cpu", lambda x: (crossings.append(x.shape), cpu(x))[1])
    monkeypatch.setattr(matching, "linear_sum_assignment", lambda c: (solved.append(c.shape), solve(c))[1])
    readings, segments = [answers(TARGETS, [[4, 0], [], [1, 3, 2]])] * 4, Segments.of(TARGETS)
    with Waits() as waits:
        Hungarian(num_points=64).match(readings, segments)
    assert crossings == [(4, 3, 5, 3)]
    assert solved == [(5, 2), (5, 0), (5, 3)] * 4
    assert waits.seen == []


def test_autocast_changes_nothing() -> None:
    torch.manual_seed(0)
    masks, logits = torch.randn(3, 5, 8, 8).bfloat16().float(), torch.randn(3, 5, K + 1)
    segments, hungarian = Segments.of(TARGETS), Hungarian(num_points=64)
    labels, target_masks = segments.padded()
    seen: list[Tensor] = []
    hungarian.solve = lambda costs, counts: (seen.append(torch.from_numpy(costs)), Hungarian.solve(costs, counts))[1]
    torch.manual_seed(1)
    exact = hungarian.costs(prediction(masks, logits), labels, target_masks)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        hungarian.match([prediction(masks.bfloat16(), logits)], segments)
    torch.testing.assert_close(seen[0], exact)


def test_fixed_assignment() -> None:
    matcher = FixedAssignment()
    assert matcher.requires == {"class_rows"}
    pairs = matcher.match([answers(TARGETS, [[], [], []], num_queries=K)] * 2, Segments.of(TARGETS))
    assert [triples(p) for p in pairs] == [[(0, 1, 1), (0, 3, 0), (2, 0, 2), (2, 2, 3), (2, 5, 4)]] * 2
