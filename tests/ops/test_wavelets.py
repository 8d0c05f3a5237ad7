"""The Haar transform keeps lengths, comes back, and separates what it should."""

from __future__ import annotations

import pytest
import torch

from queryseg.ops.wavelets import haar, inverse_haar


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (10, 2)])
def test_orthonormal(size: tuple[int, int]) -> None:
    grid, other = torch.randn(2, 2, *size, 3, dtype=torch.float64)
    bands, others = haar(grid), haar(other)
    assert bands[0].shape == (2, size[0] // 2, size[1] // 2, 3)
    assert bands[1].shape == (2, size[0] // 2, size[1] // 2, 9)
    product = sum((band * other_band).sum() for band, other_band in zip(bands, others, strict=True))
    torch.testing.assert_close(product, (grid * other).sum(), rtol=0, atol=1e-12)
    torch.testing.assert_close(inverse_haar(*bands), grid, rtol=0, atol=1e-14)


def test_bands() -> None:
    """Constant: low alone. Rows that alternate: LH alone; columns: HL; a chessboard: HH."""
    rows = torch.tensor([1.0, -1.0]).repeat(2)
    grids = {None: torch.ones(4, 4), 0: rows[:, None].expand(4, 4), 1: rows.expand(4, 4), 2: rows[:, None] * rows}
    for band, grid in grids.items():
        low, high = haar(grid[None, :, :, None])
        expected = torch.zeros(1, 2, 2, 4)
        expected[..., 0 if band is None else band + 1] = 2
        assert torch.equal(torch.cat([low, high], -1), expected)


def test_every_channel_and_place_stays_its_own() -> None:
    """A cell of 2×2 patches changes its own coefficients alone."""
    grid = torch.zeros(1, 4, 6, 2)
    grid[0, 2, 5, 1] = 4.0
    low, high = haar(grid)
    assert low.nonzero().tolist() == [[0, 1, 2, 1]]
    assert high[0, 1, 2].tolist() == [0, 2, 0, -2, 0, -2]
