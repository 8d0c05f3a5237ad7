"""Mask2Former's pixel decoder and its decoder, with all its readings, equal Hugging Face's in float64. The whole model:
tests/conversion.

Shape legend: B images, Q queries, D width, C channels of the trunk's first stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.conversion.converted import rename
from queryseg.conversion.mask2former import RULES
from queryseg.decoders import CrossAttention
from queryseg.ops.sine_positions import sine_positions
from queryseg.pixel_decoders import Deformable
from queryseg.queries import LearnableQueries
from queryseg.types import Dims, Features, Trunk

B, Q, D, C = 2, 5, 32, 8
NAMES = ("road", "building", "sky")
CHANNELS = (C, 2 * C, 4 * C, 8 * C)  # fine → coarse
DIMS = Dims(NAMES, 8 * C, 1, CHANNELS[::-1], (32, 16, 8, 4), C, D)
QUERY_DIMS = Dims(NAMES, 8 * C, 1, (D, D, D), (32, 16, 8), D, D)
TOLERANCE = {"rtol": 0.0, "atol": 1e-9}


def part(model: Any, name: str) -> dict[str, Tensor]:
    """Our weights of one part."""
    weights, _ = rename(model.state_dict(), RULES)
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def maps(height: int, width: int) -> list[Tensor]:
    """Fine → coarse; the coarsest is height × width."""
    return [torch.randn(B, c, height << 3 - i, width << 3 - i, dtype=torch.float64) for i, c in enumerate(CHANNELS)]


def trunk() -> Trunk:
    return Trunk(torch.empty(B, 0, 0), (0, 0), depth=1)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (1, 4)])
def test_pixel_decoder(size: tuple[int, int], hugging_face_mask2former: Callable[..., Any]) -> None:
    model = hugging_face_mask2former()
    ours = Deformable(DIMS, width=D, num_layers=2, hidden=24, num_heads=4).double()
    ours.load_state_dict(part(model, "pixel_decoder"))
    levels = maps(*size)
    expected = model.model.pixel_level_module.decoder(levels)
    found = ours(Features(trunk(), tuple(levels[::-1]), levels[0]))
    torch.testing.assert_close(found.mask_features, expected.mask_features, **TOLERANCE)
    for level, embed, theirs in zip(found.levels, ours.decoder_level_embed, expected.multi_scale_features, strict=True):
        torch.testing.assert_close(level - embed[:, None, None], theirs, **TOLERANCE)


@pytest.mark.parametrize("size", [(1, 1), (3, 5)], ids=["rows are blocked entirely", "usual"])
def test_decoder_with_all_readings_and_gradients(
    size: tuple[int, int], hugging_face_mask2former: Callable[..., Any]
) -> None:
    model = hugging_face_mask2former()
    ours = CrossAttention(QUERY_DIMS, num_layers=4, hidden=48, num_heads=4).double()
    ours.load_state_dict(part(model, "decoder"))
    queries = LearnableQueries(QUERY_DIMS, Q, position=True).double()
    queries.load_state_dict(part(model, "queries"))
    height, width = size
    levels = [torch.randn(B, D, height << k, width << k, dtype=torch.float64, requires_grad=True) for k in range(3)]
    mask_features = torch.randn(B, D, height << 3, width << 3, dtype=torch.float64, requires_grad=True)

    theirs = model.model.transformer_module(levels, mask_features)
    classes = [model.class_predictor(states.transpose(0, 1)) for states in theirs.intermediate_hidden_states]
    embed = model.model.transformer_module.level_embed.weight
    features = Features(
        trunk(),
        tuple(level + e[:, None, None] for level, e in zip(levels, embed, strict=True)),
        mask_features,
        tuple(sine_positions(level) for level in levels),
    )
    readings = ours(None, features, queries(features, ours.heads), queries)  # type: ignore[arg-type]
    assert len(readings) == len(theirs.masks_queries_logits) == 5
    for reading, masks, logits in zip(readings, theirs.masks_queries_logits, classes, strict=True):
        torch.testing.assert_close(reading.mask_logits, masks, **TOLERANCE)
        torch.testing.assert_close(reading.class_logits, logits, **TOLERANCE)
    share = (readings[1].mask_logits < 0).double().mean()
    assert 0.1 < share < 0.9  # the masks say something

    inputs = [*levels, mask_features]
    weights = torch.randn_like(readings[-1].mask_logits)
    found = torch.autograd.grad(sum((r.mask_logits * weights).sum() for r in readings), inputs)
    expected = torch.autograd.grad(sum((m * weights).sum() for m in theirs.masks_queries_logits), inputs)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-8)
    ours.eval()
    (final,) = ours(None, features, queries(features, ours.heads), queries)  # type: ignore[arg-type]
    torch.testing.assert_close(final.mask_logits, theirs.masks_queries_logits[-1], **TOLERANCE)
