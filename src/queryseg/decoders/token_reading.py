"""Heads on enlarged tokens, all at once or strip by strip.

Shape legend: B images, C width of tokens, Q queries, h×w the patch grid, s rows and columns that a token becomes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from queryseg.contracts import Heads
from queryseg.decoders.upsampler import Upsampler
from queryseg.types import Prediction, Queries

_HALO = 1
"""Rows of tokens beside a strip that its masks depend on: a 3×3 convolution after each doubling reaches ½ + ¼ + … < 1
token far."""


def read_tokens(
    heads: Heads, upsampler: Upsampler, queries: Queries, tokens: Tensor, strip_tokens: int | None = None
) -> Prediction:
    """tokens (B, C, h, w) → what the heads say of the upsampled tokens, with masks (B, Q, s·h, s·w).

    strip_tokens  whole rows of at most so many tokens are enlarged and compared with the queries at a time, so that
                  the largest maps, E channels at full mask size, never exist; None: all rows at once. Only where no
                  gradient is wanted. The reading has no `mask_features` then.

    Source: ours; the result is the same up to rounding.
    """
    height, width = tokens.shape[-2:]
    rows = height if strip_tokens is None or torch.is_grad_enabled() else max(1, strip_tokens // width)
    if rows >= height:
        return replace(heads(queries, upsampler(tokens)), tokens=tokens)
    num_strips = -(-height // rows)
    rows = -(-height // num_strips)  # as even as possible: a last strip of one row would be mostly halo
    reading, masks = None, tokens.new_empty(0)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - _HALO), min(height, bottom + _HALO)
        strip = heads(queries, upsampler(tokens[:, :, first:last]))
        found = strip.mask_logits
        scale = found.shape[2] // (last - first)
        if top == 0:
            masks = found.new_empty(*found.shape[:2], scale * height, scale * width)
        masks[:, :, scale * top : scale * bottom] = found[:, :, scale * (top - first) : scale * (bottom - first)]
        reading = replace(strip, mask_logits=masks, mask_features=None, tokens=tokens)
        del strip, found  # they hold this strip's maps while the next one's are made
    assert reading is not None, "an image has at least one row"
    return reading
