from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch

from queryseg.errors import CheckpointError, RecipeError
from queryseg.segmenter import Segmenter, build_segmenter
from queryseg.training.frozen_copy import follow, frozen_copy, own_tensors, restore_copy
from queryseg.training.references import References, shared_prefix


@pytest.fixture
def model(data: Path) -> Segmenter:
    return build_segmenter(tiny_run.CLASSES, tiny_run.build(tiny_run.settings(data)).model).train()


@pytest.fixture
def images(model: Segmenter) -> torch.Tensor:
    return model.normalise(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))


def change(model: Segmenter) -> None:
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p))


def test_a_copy_shares_what_cannot_change(model: Segmenter) -> None:
    model.backbone.freeze(until=1)
    twin = frozen_copy(model)
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (p is q) == (not p.requires_grad), name
        assert not q.requires_grad
    assert not any(module.training for module in twin.modules())
    assert model.training
    assert all(p.requires_grad for p in model.decoder.parameters())


def test_follow_is_an_exponential_moving_average(model: Segmenter) -> None:
    model.backbone.freeze(until=0)
    twin = frozen_copy(model)
    before = {name: p.clone() for name, p in twin.named_parameters()}
    change(model)
    follow(twin, model, 0.75)
    live = dict(model.named_parameters())
    for name, p in twin.named_parameters():
        torch.testing.assert_close(p, 0.75 * before[name] + 0.25 * live[name].detach())


def test_a_copy_is_restored_from_what_it_owns(model: Segmenter) -> None:
    model.backbone.freeze(until=1)
    twin = frozen_copy(model)
    change(model)
    own = own_tensors(twin, model)
    assert 0 < len(own) < len(model.state_dict())
    again = restore_copy(model, own, "last.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), again.parameters(), strict=True))
    own.popitem()
    with pytest.raises(CheckpointError, match="see tensor"):
        restore_copy(model, own, "last.ckpt")


@pytest.mark.parametrize("until", [None, 0, 1, 2, 3])
def test_the_shared_prefix_changes_nothing(until: int | None, model: Segmenter, images: torch.Tensor) -> None:
    if until is not None:
        model.backbone.freeze(until)
    model.eval()
    prefix = shared_prefix(model, images)
    assert (None if prefix is None else prefix.depth) == (None if until is None else min(until, 2))
    with torch.no_grad():
        whole, continued = model(images), model(images, trunk=prefix)
    assert torch.equal(whole.final.mask_logits, continued.final.mask_logits)


def test_a_reference_makes_each_thing_once_and_only_if_asked(
    model: Segmenter, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings of the image cost no pyramid; everything else is made from the same trunk."""
    made: list[str] = []
    for name in ("block", "levels", "joint"):
        original = getattr(type(model.backbone), name)

        def count(*arguments: Any, name: str = name, original: Any = original) -> Any:
            made.append(name)
            return original(*arguments)

        monkeypatch.setattr(type(model.backbone), name, count)
    reference = References(model).at(images, None)("frozen")
    assert reference.joint is None, "this backbone has no image–text space"
    assert made == ["block", "block", "joint"]
    reference.output()
    reference.contents(reference.output().queries)
    assert made.count("levels") == 1
    assert made.count("block") == 2 + 2, "queries join the last one, in `output` and in `contents`"


def test_a_reference_stays_as_it_was_when_first_asked_for(model: Segmenter, images: torch.Tensor) -> None:
    references = References(model)
    change(model)
    expected = frozen_copy(model)(images).final.class_logits
    assert torch.equal(references.at(images, None)("frozen").output().final.class_logits, expected)
    change(model)
    references.update()
    reference = references.at(images, None)("frozen")
    assert torch.equal(reference.output().final.class_logits, expected)
    assert not reference.output().final.class_logits.requires_grad


def test_ema_moves_and_frozen_does_not(model: Segmenter, images: torch.Tensor) -> None:
    references = References(model, decay=0.5)
    at = references.at(images, None)
    content = model.queries.content.detach().clone()
    at("ema"), at("frozen")
    change(model)
    references.update()
    torch.testing.assert_close(at("ema").model.queries.content, (content + model.queries.content.detach()) / 2)
    assert torch.equal(at("frozen").model.queries.content, content)


def test_references_share_the_prefix_only_with_the_same_parameters(model: Segmenter, images: torch.Tensor) -> None:
    model.backbone.freeze(until=1)
    other = build_segmenter(tiny_run.CLASSES, tiny_run.build(tiny_run.settings(Path("nowhere")), seed=1).model)
    references = References(model, previous=other)
    prefix = shared_prefix(model, images)
    at = references.at(images, prefix)
    assert at("ema").trunk is prefix
    assert at("previous_task").trunk is None
    assert torch.equal(at("previous_task").output().final.content, other(images).final.content)


def test_outputs_are_cached_per_argument(model: Segmenter, images: torch.Tensor) -> None:
    reference = References(model).at(images, None)("ema")
    output = reference.output()
    assert reference.output() is output
    assert reference.output(output.queries) is not output
    assert reference.output(output.queries) is reference.output(output.queries)


def test_state_round_trip(model: Segmenter, images: torch.Tensor) -> None:
    references = References(model)
    references.at(images, None)("ema")
    change(model)
    references.update()
    state = references.state_dict()
    again = References(model)
    again.load_state_dict(state, "last.ckpt")
    assert all(
        torch.equal(a, b)
        for a, b in zip(references.copies["ema"].parameters(), again.copies["ema"].parameters(), strict=True)
    )
    assert set(state) == {"ema"}


@pytest.mark.parametrize("name", ["previous_task", "emma"])
def test_unknown_reference(name: str, model: Segmenter, images: torch.Tensor) -> None:
    with pytest.raises(RecipeError, match=name):
        References(model).at(images, None)(name)
