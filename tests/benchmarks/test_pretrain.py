"""Pre-training on many looks: what it is taught, and that it can be repeated."""

from __future__ import annotations

import torch
from pretrain import FARTHEST, Geometry, geometry_losses, look, target, train
from torch import Tensor

from queryseg.recipe_file import build, resolve
from queryseg.segmenter import build_segmenter


def quiet(done: int, total: int) -> None:
    pass


def scenes(number: int) -> tuple[Tensor, Tensor]:
    images, depths = zip(*(look((0, index)) for index in range(number)), strict=True)
    return torch.stack([torch.from_numpy(i) for i in images]), torch.stack([torch.from_numpy(d) for d in depths])


def test_edges_are_jumps_of_depth_and_not_slopes() -> None:
    near = torch.tensor([[[10.0, 10.0, 10.0, FARTHEST]]])
    far = torch.tensor([[[10.5, 14.0, 30.0, FARTHEST]]])
    depth, edges = target(torch.stack([near, far], 1))
    assert edges.tolist() == [[[0.0, 0.0, 1.0, 0.0]]]
    assert torch.allclose(depth.exp() * torch.e**3, near)


def test_losses_are_zero_for_the_truth() -> None:
    _, depths = scenes(1)
    depth, edges = target(depths)
    told = torch.stack([depth, 40 * (2 * edges - 1)], 1)
    assert max(map(float, geometry_losses(told, depths))) < 1e-12
    assert 0.02 < float(edges.mean()) < 0.4
    assert float(depths.max()) <= FARTHEST


def test_it_learns_and_repeats_itself() -> None:
    torch.set_num_threads(1)
    images, depths = scenes(4)
    first, again = (train(images, depths, 6, 2, 1e-3, quiet) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    torch.manual_seed(0)
    fresh = Geometry()
    with torch.no_grad():
        before, after = (sum(geometry_losses(model(images), depths)) for model in (fresh, first))
    assert after < before


def test_every_arm_starts_from_all_of_it() -> None:
    from arms import ARMS, Run

    learned = {f"backbone.{name}": value.shape for name, value in Geometry().backbone.state_dict().items()}
    for arm in ARMS:
        recipe = build(resolve(Run("streets", arm, 0).content()))
        own = build_segmenter(recipe.class_table.names, recipe.model).state_dict()
        assert {name: own[name].shape for name in learned} == learned, arm
