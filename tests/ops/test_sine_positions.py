"""Positions as sines and cosines."""

from __future__ import annotations

import math

import torch

from queryseg.ops.sine_positions import sine_points, sine_positions


def test_first_half_tells_rows_and_second_half_columns() -> None:
    positions = sine_positions(torch.empty(3, 8, 4, 6, dtype=torch.float64))
    assert positions.shape == (1, 8, 4, 6)
    assert torch.equal(positions[0, :4, :, 0], positions[0, :4, :, 5])
    assert torch.equal(positions[0, 4:, 0], positions[0, 4:, 3])
    y = 2 * math.pi * 3 / (4 + 1e-6)
    expected = [math.sin(y), math.cos(y), math.sin(y / 100), math.cos(y / 100)]
    torch.testing.assert_close(positions[0, :4, 2, 1], torch.tensor(expected, dtype=torch.float64))


def test_half_precision_tells_neighbours_of_long_maps_apart() -> None:
    positions = sine_positions(torch.empty(1, 64, 1, 512, dtype=torch.bfloat16))
    exact = sine_positions(torch.empty(1, 64, 1, 512, dtype=torch.float64))
    assert positions.dtype == torch.bfloat16
    assert (positions.double() - exact).abs().max() < 2**-8


def test_points_are_encoded_as_cells_at_their_place() -> None:
    cells = sine_positions(torch.empty(1, 16, 5, 7, dtype=torch.float64))
    y, x = 3 / (5 + 1e-6), 6 / (7 + 1e-6)  # the cell in row 2 and column 5
    points = torch.tensor([[[x, y]]], dtype=torch.float64)
    torch.testing.assert_close(sine_points(points, 16)[0, 0], cells[0, :, 2, 5])
