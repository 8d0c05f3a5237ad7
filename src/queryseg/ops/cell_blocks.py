"""Cells of a coarse map and the pixels of a finer one that lie in them.

Shape legend: B images, h×w the coarse map, H×W the fine one, k chosen cells, n pixels of a block, T = k·n.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pixels_of_cells(cells: Tensor, coarse: tuple[int, int], fine: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Pixels of chosen cells: pixel p of H belongs to cell ⌊p · h / H⌋, so that the blocks of all cells share out the
    fine map. They are equal where h divides H and w divides W (8×8 from stride 32 to stride 4).

    cells (B, k), row by row → pixels (B, T), row by row, and outside (B, T) bool: entries that only fill up a smaller
    block and must not be seen; None if there are none.
    """
    width = coarse[1]
    rows, beyond_rows = _block(cells // width, coarse[0], fine[0])
    columns, beyond_columns = _block(cells % width, coarse[1], fine[1])
    pixels = rows[..., :, None] * fine[1] + columns[..., None, :]
    if beyond_rows is None and beyond_columns is None:
        return pixels.flatten(1), None
    nowhere = torch.zeros_like(rows, dtype=torch.bool), torch.zeros_like(columns, dtype=torch.bool)
    beyond_rows = nowhere[0] if beyond_rows is None else beyond_rows
    beyond_columns = nowhere[1] if beyond_columns is None else beyond_columns
    return pixels.flatten(1), (beyond_rows[..., :, None] | beyond_columns[..., None, :]).flatten(1)


def _block(cells: Tensor, num_cells: int, num_pixels: int) -> tuple[Tensor, Tensor | None]:
    """Along one axis: cells (B, k) → pixels (B, k, side) and which of them lie beyond the cell."""
    side = -(-num_pixels // num_cells)
    begins = (cells * num_pixels + num_cells - 1) // num_cells
    pixels = begins[..., None] + torch.arange(side, device=cells.device)
    if num_pixels % num_cells == 0:
        return pixels, None
    ends = ((cells + 1) * num_pixels + num_cells - 1) // num_cells
    return pixels.clamp(max=num_pixels - 1), pixels >= ends[..., None]


def take_rows(tokens: Tensor, rows: Tensor) -> Tensor:
    """tokens (1 or B, S, D), rows (B, T) → (B, T, D), differentiable in the tokens"""
    tokens = tokens.expand(rows.shape[0], -1, -1)
    return tokens.gather(1, rows[..., None].expand(-1, -1, tokens.shape[2]))
