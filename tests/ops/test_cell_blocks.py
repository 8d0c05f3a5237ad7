"""Cells of a coarse map share out the pixels of a fine one."""

from __future__ import annotations

import pytest
import torch

from queryseg.ops.cell_blocks import pixels_of_cells, take_rows


@pytest.mark.parametrize(
    ("coarse", "fine", "full"),
    [((2, 3), (16, 24), 64), ((1, 3), (4, 28), 40), ((3, 2), (7, 9), 15), ((1, 1), (4, 4), 16), ((5, 4), (20, 17), 20)],
)
def test_every_pixel_belongs_to_one_cell(coarse: tuple[int, int], fine: tuple[int, int], full: int) -> None:
    cells = torch.arange(coarse[0] * coarse[1])
    owners = torch.full((fine[0] * fine[1],), -1)
    for cell in cells:
        pixels, outside = pixels_of_cells(cell.view(1, 1), coarse, fine)
        assert pixels.shape == (1, full)
        assert (outside is None) == (fine[0] % coarse[0] == 0 and fine[1] % coarse[1] == 0)
        own = pixels[0] if outside is None else pixels[0][~outside[0]]
        assert bool((owners[own] == -1).all()), "a pixel in two cells"
        owners[own] = cell
    rows = torch.arange(fine[0]) * coarse[0] // fine[0]
    columns = torch.arange(fine[1]) * coarse[1] // fine[1]
    assert torch.equal(owners.view(fine), rows[:, None] * coarse[1] + columns)


def test_images_choose_for_themselves_and_rows_hold_gradient() -> None:
    tokens = torch.randn(1, 6 * 8, 5, requires_grad=True)
    pixels, _ = pixels_of_cells(torch.tensor([[0, 5], [3, 2]]), (2, 4), (6, 8))
    taken = take_rows(tokens, pixels)
    assert taken.shape == (2, 12, 5)
    assert torch.equal(taken[1], tokens[0, pixels[1]])
    assert pixels[0].tolist() == [0, 1, 8, 9, 16, 17, 26, 27, 34, 35, 42, 43]
    taken[0].sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0, :, 0].nonzero()[:, 0].tolist() == sorted(pixels[0].tolist())
