from math import isnan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from queryseg.metrics.query_groups import group_sizes, majority_groups, nearest_prototypes, spread_within_groups

NONE = torch.tensor([False, False, False])


def test_the_nearest_prototype_is_one_that_is_known() -> None:
    similarity = torch.tensor([[[0.9, 0.5, 0.2], [-0.5, -0.7, -0.1]]])
    groups, nearest, margin = nearest_prototypes(similarity, torch.tensor([False, True, True]))
    assert groups.tolist() == [[1, 2]]
    torch.testing.assert_close(nearest, torch.tensor([[0.5, -0.1]]))
    torch.testing.assert_close(margin, torch.tensor([[0.3, 0.6]]))


def test_a_margin_needs_two_prototypes_and_a_group_needs_one() -> None:
    similarity = torch.rand(1, 2, 3)
    groups, _, margin = nearest_prototypes(similarity, torch.tensor([True, False, False]))
    assert groups.tolist() == [[0, 0]]
    assert margin.isnan().all()
    groups, nearest, margin = nearest_prototypes(similarity, NONE)
    assert groups.tolist() == [[-1, -1]]
    assert nearest.isnan().all()
    assert margin.isnan().all()


def test_a_single_class_has_no_second_prototype() -> None:
    groups, nearest, margin = nearest_prototypes(torch.tensor([[[0.25]]]), torch.tensor([True]))
    assert (groups.item(), nearest.item()) == (0, 0.25)
    assert margin.isnan().all()


def test_sizes_leave_out_queries_without_class() -> None:
    assert group_sizes(torch.tensor([[0, 0, 2, -1], [-1, -1, -1, -1]]), 3).tolist() == [[2, 0, 1], [0, 0, 0]]


def test_spread_is_the_mean_over_groups_of_two_or_more() -> None:
    groups = torch.tensor([[0, 0, 1, 1], [2, 1, 1, 1]])
    values = torch.tensor([[1.0, 3.0, 5.0, 5.0], [9.0, 0.0, 0.0, 3.0]])
    # deviations 1 and 0 in the first image; 9 is alone; √2 in the second
    assert spread_within_groups(values, groups, 3) == pytest.approx((1 + 0 + 2**0.5) / 3)
    assert isnan(spread_within_groups(values[:, :1], groups[:, :1], 3))


@given(st.integers(0, 2**31))
def test_spread_equals_a_loop_over_groups(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    groups = torch.randint(-1, 3, (3, 7), generator=random)
    values = torch.randn(3, 7, generator=random)
    found = [
        values[i][groups[i] == k].std(correction=0)
        for i in range(3)
        for k in range(3)
        if int((groups[i] == k).sum()) > 1
    ]
    wanted = float(torch.stack(found).mean()) if found else float("nan")
    assert spread_within_groups(values, groups, 3) == pytest.approx(wanted, abs=1e-6, nan_ok=True)


def test_majority_over_images() -> None:
    groups = torch.tensor([[0, 1, -1, 2], [0, 0, -1, -1], [1, 1, -1, -1], [1, 2, -1, -1]])
    assert majority_groups(groups, 3).tolist() == [0, 1, -1, 2]  # a draw between 0 and 1 goes to 0
