from __future__ import annotations

from pathlib import Path

import pytest
import tiny_run
import torch

from queryseg.contracts import Objective, Step
from queryseg.data.batch import Batch
from queryseg.errors import RecipeError
from queryseg.segmenter import Segmenter, build_segmenter
from queryseg.training.references import References
from queryseg.training.schedule import reseed
from queryseg.training.step import TrainingStep, build_objectives, padded_targets
from queryseg.types import IGNORE, Dims, Output, Queries, Target


class Recorder(Objective):
    """Notes the order of calls; hands on fewer queries and other targets."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.weights = {"one": 2.0, "two": 3.0}
        self.calls: list[str] = []

    def schedule(self, progress: float) -> None:
        self.calls.append(f"schedule {progress}")

    def prepare(self, queries: Queries, targets: list[Target], step: Step) -> tuple[Queries, list[Target]]:
        self.calls.append("prepare")
        return Queries(queries.content[:, :3]), [Target.semantic(torch.zeros(32, 32)) for _ in targets]

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, torch.Tensor]:
        self.calls.append("losses")
        assert output.final.class_logits.shape[1] == 3
        assert [target.labels.tolist() for target in targets] == [[0], [0]]
        return {"one": output.final.content.sum(), "two": output.final.content.new_tensor(5.0)}

    def after_step(self, step: Step) -> None:
        self.calls.append(f"after {step.index} of {step.total}")


@pytest.fixture
def model(data: Path) -> Segmenter:
    return build_segmenter(tiny_run.CLASSES, tiny_run.build(tiny_run.settings(data)).model).train()


def batch_of(size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    label_maps = torch.randint(0, 3, (2, size, size), generator=generator, dtype=torch.uint8)
    return Batch(images, label_maps, [torch.arange(3)] * 2, ["a", "b"], [0, 1])


def test_order_and_weights(model: Segmenter) -> None:
    recorder = Recorder(model.dims)
    step = TrainingStep(model, {"recorder": recorder}, References(model), steps=8)
    losses = step(batch_of(), 2)
    assert recorder.calls == ["schedule 0.25", "prepare", "losses"]
    assert set(losses) == {"loss", "recorder/one", "recorder/two"}
    torch.testing.assert_close(losses["loss"], 2 * losses["recorder/one"] + 3 * losses["recorder/two"])
    assert losses["loss"].requires_grad
    assert not losses["recorder/one"].requires_grad
    step.after_step()
    assert recorder.calls[-1] == "after 2 of 8"


def test_a_frozen_beginning_gives_the_same_losses_and_gradients(model: Segmenter, data: Path) -> None:
    """The prefix without gradient is the same computation as the whole trunk."""
    objectives = build_objectives(model, tiny_run.build(tiny_run.settings(data)).objectives)
    step = TrainingStep(model, objectives, References(model), steps=4)
    model.eval()
    found = []
    for until in (None, 1):
        if until is not None:
            model.backbone.freeze(until)
        model.zero_grad()
        reseed(0, 0, 0, 0)
        losses = step(batch_of(), 3)
        losses["loss"].backward()
        found.append((losses, model.queries.content.grad.clone()))
    assert {name: v.item() for name, v in found[0][0].items()} == {name: v.item() for name, v in found[1][0].items()}
    assert torch.equal(found[0][1], found[1][1])


def test_targets_cover_the_canvas() -> None:
    """Image sizes that are no multiple of the patch are padded; targets too, with ignored pixels."""
    targets = padded_targets(batch_of(30), 32, 40)
    assert targets[0].masks.shape == (3, 32, 40)
    assert targets[0].label_map[30:].eq(IGNORE).all()
    assert targets[0].label_map[:, 30:].eq(IGNORE).all()
    assert torch.equal(targets[0].label_map[:30, :30], batch_of(30).label_maps[0].long())
    assert not targets[0].masks[:, 30:].any()


def test_no_objective(model: Segmenter) -> None:
    with pytest.raises(RecipeError, match="objectives is empty"):
        build_objectives(model, {})


def test_a_reference_that_was_not_given(model: Segmenter) -> None:
    def make(dims: Dims) -> Objective:
        recorder = Recorder(dims)
        recorder.references = frozenset({"previous_task"})
        return recorder

    with pytest.raises(RecipeError, match=r"objectives.continual Recorder compares with 'previous_task'"):
        build_objectives(model, {"continual": make})
    assert build_objectives(model, {"continual": make}, frozenset({"previous_task"}))
