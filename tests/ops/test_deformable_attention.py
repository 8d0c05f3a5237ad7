"""Deformable attention.

Shape legend: B images, S cells, G heads, L maps, P points, D width.
"""

from __future__ import annotations

import math

import pytest
import torch

from queryseg.errors import RecipeError
from queryseg.ops.deformable_attention import Cells, DeformableAttention, deformable_attention

SIZES = [(2, 3), (4, 6)]
S, G, L, P, D = 30, 2, 2, 3, 8


def test_a_point_on_a_cell_reads_that_cell() -> None:
    values = torch.randn(2, S, G, D // G, dtype=torch.float64)
    cells = Cells(SIZES, values)
    weights = torch.zeros(2, S, G, L, P, dtype=torch.float64)
    weights[:, :, 0, 1, 2] = 0.5  # head 0 reads the second map at its third point, head 1 nothing
    target = torch.randint(6, 30, (S,))
    locations = torch.rand(2, S, G, L, P, 2, dtype=torch.float64)
    locations[:, :, 0, 1, 2] = cells.centres[target]
    read = deformable_attention(values, SIZES, locations, weights)
    torch.testing.assert_close(read[..., : D // G], 0.5 * values[:, target, 0])
    assert not read[..., D // G :].any()


def test_outside_a_map_is_zero_and_between_cells_is_bilinear() -> None:
    values = torch.arange(6.0, dtype=torch.float64).view(1, 6, 1, 1)  # rows 0 1 2 and 3 4 5
    places = torch.tensor([[2.0, 0.5], [1 / 3, 0.5], [-1.0, -1.0]], dtype=torch.float64)
    weights = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    found = [deformable_attention(values, [(2, 3)], p.view(1, 1, 1, 1, 1, 2), weights).item() for p in places]
    assert found == pytest.approx([0, (0 + 1 + 3 + 4) / 4, 0])


def test_cells_lie_where_pixels_are_counted_from_corners() -> None:
    cells = Cells(SIZES, torch.empty(0, dtype=torch.bfloat16))
    assert cells.centres.shape == (S, 2)
    assert cells.centres.dtype == torch.float32
    torch.testing.assert_close(cells.centres[4], torch.tensor([1.5 / 3, 1.5 / 2]))
    torch.testing.assert_close(cells.centres[6 + 5], torch.tensor([5.5 / 6, 0.5 / 4]))
    torch.testing.assert_close(cells.extents, torch.tensor([[1 / 3, 1 / 2], [1 / 6, 1 / 4]]))


def test_at_first_each_head_looks_along_a_direction_of_its_own() -> None:
    attention = DeformableAttention(16, num_heads=8, num_levels=3, num_points=4)
    offsets = attention.offsets.bias.view(8, 3, 4, 2)
    assert not attention.offsets.weight.any()
    assert not attention.weights.weight.any()
    for head in range(8):
        angle = 2 * math.pi * head / 8
        direction = torch.tensor([math.cos(angle), math.sin(angle)])
        for point in range(4):
            expected = (point + 1) * direction / direction.abs().max()
            torch.testing.assert_close(offsets[head, 2, point], expected, rtol=0, atol=1e-5)


def test_offsets_are_counted_in_cells_of_the_map_looked_at() -> None:
    attention = DeformableAttention(4, num_heads=1, num_levels=2, num_points=1).double()
    with torch.no_grad():
        attention.offsets.bias.copy_(torch.tensor([1.0, 0.0, 0.0, -1.0]))  # right on the first, up on the second map
        attention.weights.bias.copy_(torch.tensor([40.0, -40.0]))  # the first map alone
    x = torch.randn(1, S, 4, dtype=torch.float64)
    cells = Cells(SIZES, x)
    values = attention.value(x)
    found = attention(x, torch.zeros_like(x), cells)[0, 3]  # row 1, column 0 of the first map
    torch.testing.assert_close(found, attention.out(values[0, 4]), rtol=0, atol=1e-10)
    with torch.no_grad():
        attention.weights.bias.neg_()
    found = attention(x, torch.zeros_like(x), cells)[0, 6 + 6 + 2]  # row 1, column 2 of the second
    torch.testing.assert_close(found, attention.out(values[0, 6 + 2]), rtol=0, atol=1e-10)


def test_gradients_are_exact() -> None:
    values = torch.randn(1, S, G, D // G, dtype=torch.float64, requires_grad=True)
    locations = torch.rand(1, 5, G, L, P, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(1, 5, G, L, P, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *x: deformable_attention(x[0], SIZES, x[1], x[2]), (values, locations, weights)
    )


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(RecipeError, match="width 10 cannot be split among 4 heads"):
        DeformableAttention(10, 4, 3, 4)
