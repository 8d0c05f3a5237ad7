"""Positions as sines and cosines."""

from __future__ import annotations

import math

import torch

from queryseg.ops.sine_positions import sine_positions


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
