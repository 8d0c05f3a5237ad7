"""Shape legend: B = 2 images, N = 4 queries, V virtual ones, K = 4 classes, D = 8 width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from queryseg.contracts import Step
from queryseg.errors import CheckpointError, RecipeError
from queryseg.objectives import VirtualQueries
from queryseg.objectives.matching import Assignment, Matcher, Segments
from queryseg.objectives.pseudo_distribution import PseudoDistribution
from queryseg.objectives.virtual_queries import over_ranks
from queryseg.types import Dims, Features, Output, Prediction, Queries, Target

DIMS = Dims(("a", "b", "c", "d"), 8, 1, (8,), (8,), 8, 8)
STEP = cast(Step, None)


class InOrder(Matcher):
    """Query i answers for segment i."""

    def match(self, predictions: Any, segments: Segments) -> list[Assignment]:
        row = torch.cat([torch.arange(count) for count in segments.counts])
        return [Assignment(segments.image, row, torch.arange(len(row)))] * len(predictions)


def made(**options: Any) -> VirtualQueries:
    return VirtualQueries(DIMS, **{"matcher": InOrder, "num_virtual": 3, "length": 5, **options})


def target(labels: list[int], num_pseudo: int = 0) -> Target:
    masks = torch.zeros(len(labels), 4, 4, dtype=torch.bool)
    return Target(torch.tensor(labels, dtype=torch.int64), masks, torch.zeros(4, 4), num_pseudo)


def output(queries: Queries) -> Output:
    rows = queries.content.shape[1]
    logits = torch.randn(2, rows, 4, requires_grad=True)
    nothing = torch.zeros(2, rows, 0)
    reading = Prediction(logits, logits.sigmoid(), nothing, nothing, None, nothing)
    n = queries.num_attending
    parts = [reading.rows(slice(n))] * 2, [reading.rows(slice(n, None))] * 2
    return Output(cast(Features, None), queries, *parts)


def learn(objective: VirtualQueries, targets: list[Target]) -> tuple[dict[str, Tensor], Output]:
    queries, _ = objective.prepare(Queries(torch.randn(2, 4, 8)), targets, STEP)
    found = output(queries)
    losses = objective.losses(found, targets, STEP)
    objective.after_step(STEP)
    return losses, found


TARGETS = [target([3, 0, 1], num_pseudo=2), target([1])]


def test_the_first_task_keeps_queries_and_shows_none() -> None:
    objective = made()
    losses, found = learn(objective, TARGETS)
    assert losses == {}
    assert found.queries.num_isolated == 0
    assert objective.bank.counts.tolist() == [1, 2, 0, 1]
    torch.testing.assert_close(objective.bank.entries(3)[0], found.queries.content[0, 0].half())
    torch.testing.assert_close(objective.bank.entries(1), found.queries.content[[0, 1], [2, 0]].half())


def test_queries_of_pseudo_labels_are_kept_or_not() -> None:
    objective = made(bank_source="gt")
    learn(objective, TARGETS)
    assert objective.bank.counts.tolist() == [0, 2, 0, 0]


def test_old_classes_are_shown_again_and_never_kept_twice() -> None:
    torch.manual_seed(0)
    objective = made(old_classes=[3, 0])
    learn(objective, TARGETS)
    kept = {label: objective.bank.entries(label) for label in (0, 3)}
    losses, found = learn(objective, [target([2]), target([2])])
    assert found.queries.num_isolated == 3
    shown = found.queries.content[:, 4:]
    assert not shown.requires_grad
    assert objective.drawn is not None
    for label, row in zip(objective.drawn.flatten().tolist(), shown.flatten(0, 1), strict=True):
        assert label in kept
        assert bool((kept[label].float() == row).all(1).any())
    assert objective.bank.counts.tolist() == [1, 2, 2, 1]
    expected = torch.zeros(())
    for reading in found.isolated:
        for place in ((b, v, k) for b in range(2) for v in range(3) for k in range(4)):
            p = reading.class_scores[place]
            positive = objective.drawn[place[:2]] == place[2]
            expected = expected - (0.25 * (1 - p) ** 2 * p.log() if positive else 0.75 * p**2 * (1 - p).log())
    torch.testing.assert_close(losses["class"], expected / 2)


def test_classes_without_an_entry_are_not_shown_and_named() -> None:
    objective = made(old_classes=[0, 2])
    assert objective.remarks()[0].endswith(
        "no entry of 2 of 2 old classes, which are not shown again until one is found: a, c"
    )
    assert learn(objective, TARGETS)[1].queries.num_isolated == 0, "nothing was kept yet"
    assert "1 of 2 old classes" in objective.remarks()[0]
    for _ in range(5):
        learn(objective, [target([1]), target([1])])
        assert objective.drawn is not None
        assert bool((objective.drawn == 0).all())
    assert made(old_classes=[0], num_virtual=0).remarks() == []


def test_rare_pseudo_labels_are_drawn_more_often(tmp_path: Path) -> None:
    path = tmp_path / "pseudo_labels.json"
    PseudoDistribution(torch.tensor([0, 7, 8, 24])).write(path, DIMS.class_names)
    assert json.loads(path.read_text()) == {"pseudo_labels": {"a": 0, "b": 7, "c": 8, "d": 24}}
    objective = made(old_classes=[0, 2, 3], distribution=str(path))
    by_hand = torch.tensor([35 / 1, 0, 35 / 9, 35 / 25]).sqrt()
    torch.testing.assert_close(objective.class_weights, by_hand)
    flat = made(old_classes=[0, 2, 3], distribution=str(path), alpha=0.0)
    assert flat.class_weights.tolist() == [1, 0, 1, 1]
    even = made(old_classes=[0, 2, 3]).class_weights
    assert even[0] == even[2] == even[3] > 0


def test_a_task_begins_with_what_the_one_before_left(tmp_path: Path) -> None:
    before = made()
    learn(before, TARGETS)
    before.hand_over(tmp_path)
    after = made(old_classes=[0, 1, 3], bank=str(tmp_path / "virtual_queries.safetensors"))
    assert after.bank.counts.tolist() == before.bank.counts.tolist()
    assert after.remarks() == []
    assert learn(after, [target([2]), target([2])])[1].queries.num_isolated == 3


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="length is 0, but must be at least 1"):
        made(length=0)
    with pytest.raises(RecipeError, match="old_classes names -1"):
        made(old_classes=[-1])
    with pytest.raises(CheckpointError, match=r"There is no .*gone; count the pseudo-labels"):
        made(distribution=str(tmp_path / "gone"))
    path = tmp_path / "counts.json"
    for text in ("", "[]", '{"pseudo_labels": {"a": 1}}', '{"pseudo_labels": {"a": 1, "b": "x", "c": 1, "d": 1}}'):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="does not count pseudo-labels of these classes"):
            made(distribution=str(path))
    path.write_text('{"pseudo_labels": {"a": 1, "b": 1, "c": 1, "d": -1}}')
    with pytest.raises(CheckpointError, match="counts other classes"):
        made(distribution=str(path))


def _gather(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", world_size=2, rank=rank)
    labels = torch.tensor([[5, 6, 7], [8]][rank])
    rows = labels[:, None].half().expand(-1, 2)
    torch.save(over_ranks(labels, rows), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_all_processes_keep_the_queries_of_all(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_gather, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        labels, rows = torch.load(tmp_path / f"{rank}.pt")
        assert labels.tolist() == [5, 6, 7, 8]
        assert rows[:, 1].tolist() == [5, 6, 7, 8]
