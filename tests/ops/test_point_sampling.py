"""Shape legend: N groups of maps, C maps of a group, h×w their size, P points."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from queryseg.ops.point_sampling import importance_points, sample_maps, sample_masks, uncertain_points

CORNERS = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=torch.float64)


def test_maps_are_read_between_pixel_centres() -> None:
    maps = torch.tensor([[[[1.0, 3.0], [5.0, 9.0]]]])
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.5, 0.25], [0.5, 0.5]]])
    assert sample_maps(maps, points).tolist() == [[[1.0, 3.0, 2.0, 4.5]]]


def test_corners_mix_with_zero_outside() -> None:
    assert sample_maps(torch.ones(1, 1, 4, 4, dtype=torch.float64), CORNERS[None]).tolist() == [[[0.25] * 4]]


@given(seed=st.integers(0, 999), n=st.integers(0, 3), c=st.integers(0, 4), h=st.integers(1, 9), w=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_masks_read_like_float_maps(seed: int, n: int, c: int, h: int, w: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(n, c, h, w, generator=generator) > 0.5
    points = torch.rand(n, 7, 2, generator=generator, dtype=torch.float64)
    points = torch.cat([points, CORNERS.expand(n, -1, -1)], 1)
    torch.testing.assert_close(sample_masks(masks, points), sample_maps(masks.double(), points), rtol=0, atol=1e-13)


def test_masks_keep_the_points_precision() -> None:
    masks, points = torch.ones(1, 2, 3, 3, dtype=torch.bool), torch.rand(1, 5, 2)
    assert sample_masks(masks, points).dtype == torch.float32
    assert sample_masks(masks, points.double()).dtype == torch.float64


def test_gradient_reaches_maps() -> None:
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    points = torch.rand(2, 6, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: sample_maps(x, points), maps)


def test_uncertain_points_are_those_nearest_to_zero() -> None:
    ramp = torch.linspace(-1, 1, 101).expand(1, 101, 101)  # zero in the middle column
    candidates = 0.1 + 0.8 * torch.rand(1, 200, 2, generator=torch.Generator().manual_seed(0))  # not at the border
    chosen = uncertain_points(ramp, candidates, 40)[0, :, 0]
    distances = (candidates[0, :, 0] - 0.5).abs().sort().values
    assert (chosen - 0.5).abs().max() <= distances[39] + 1e-6
    assert len(set(chosen.tolist())) == 40


@pytest.mark.parametrize(("num_points", "ratio", "uncertain"), [(64, 0.75, 48), (64, 0.0, 0), (64, 1.0, 64)])
def test_importance_points_mix(num_points: int, ratio: float, uncertain: int) -> None:
    torch.manual_seed(0)
    maps = torch.full((3, 32, 32), 9.0)
    maps[:, :, 16:] = 0.1  # the right half is undecided
    points = importance_points(maps, num_points, 8.0, ratio)
    assert points.shape == (3, num_points, 2)
    assert (points >= 0).all()
    assert (points < 1).all()
    assert (points[:, :uncertain, 0] > 0.45).all()
    assert uncertain == num_points or (points[:, uncertain:, 0] < 0.45).any()


def test_importance_points_follow_the_global_seed() -> None:
    maps = torch.randn(2, 8, 8)
    torch.manual_seed(3)
    first = importance_points(maps, 12, 3.0, 0.75)
    torch.manual_seed(3)
    assert torch.equal(first, importance_points(maps, 12, 3.0, 0.75))


def test_no_maps() -> None:
    assert importance_points(torch.zeros(0, 4, 4), 12, 3.0, 0.75).shape == (0, 12, 2)
