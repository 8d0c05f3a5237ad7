"""Mask2Former's pixel decoder; its numbers are compared with Hugging Face's in tests/parity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.errors import RecipeError
from queryseg.pixel_decoders import Deformable
from queryseg.types import Dims, Features, Trunk

DIMS = Dims(("a",), 16, 2, (16, 12, 8, 4), (32, 16, 8, 4), 4, 16)
OPTIONS = {"width": 32, "num_layers": 2, "hidden": 24, "num_heads": 4, "groups": 8}


def test_levels_exchange_and_only_the_finest_map_stays_outside() -> None:
    decoder = Deformable(DIMS, **OPTIONS).double()
    levels = [torch.randn(1, c, 3 << k, 2 << k, dtype=torch.float64) for k, c in enumerate(DIMS.channels)]
    levels = [level.requires_grad_() for level in levels]
    out = decoder(Features(Trunk(torch.empty(1, 6, 16), (3, 2)), tuple(levels), levels[-1]))
    assert decoder.dims.channels == (32, 32, 32)
    assert decoder.dims.strides == (32, 16, 8)
    assert [tuple(level.shape) for level in out.levels] == [(1, 32, 3, 2), (1, 32, 6, 4), (1, 32, 12, 8)]
    reached = torch.autograd.grad(out.levels[0].square().sum(), levels, retain_graph=True, allow_unused=True)
    assert [g is not None and bool(g.any()) for g in reached] == [True, True, True, False]
    reached = torch.autograd.grad(out.mask_features.square().sum(), levels)
    assert all(bool(g.any()) for g in reached)


def test_first_weights_are_mask2formers() -> None:
    torch.manual_seed(0)
    decoder = Deformable(DIMS)
    assert 0.9 < decoder.encoder_level_embed.std() < 1.1
    assert 0.9 < decoder.decoder_level_embed.std() < 1.1
    entrance = decoder.inputs[0][0]
    bound = (6 / (16 + 256)) ** 0.5  # Glorot's
    assert 0.95 * bound < entrance.weight.abs().max() <= bound
    bound = (3 / (9 * 256)) ** 0.5  # Caffe2's Xavier fill: fan in alone
    assert 0.95 * bound < decoder.smooth[0].weight.abs().max() <= bound
    assert not any(layer.bias.any() for layer in (entrance, decoder.mask_projection))
    bound = (6 / (256 + 1024)) ** 0.5
    assert 0.95 * bound < decoder.layers[0].expand.weight.abs().max() <= bound


def test_a_width_that_does_not_split_is_refused() -> None:
    with pytest.raises(RecipeError, match="width 48 cannot be split into 32 groups"):
        Deformable(DIMS, width=48)
    with pytest.raises(RecipeError, match="width 32 cannot be split among 5 heads"):
        Deformable(DIMS, width=32, num_heads=5)
    with pytest.raises(RecipeError, match="num_points is 0, but must be at least 1"):
        Deformable(DIMS, width=32, num_points=0)


def run(height: int, width: int, **options: Any) -> tuple[Deformable, Features, list[Tensor]]:
    decoder = Deformable(DIMS, **OPTIONS, **options)
    for layer in decoder.layers:  # at first they look the same way whatever the position
        torch.nn.init.normal_(layer.attention.weights.weight)
    levels = [torch.randn(2, c, height << k, width << k, requires_grad=True) for k, c in enumerate(DIMS.channels)]
    return decoder, decoder(Features(Trunk(torch.empty(2, 6, 16), (3, 2)), tuple(levels), levels[-1])), levels


@pytest.mark.parametrize("positions", ["sine", "learnable", "conditional"])
@pytest.mark.parametrize("num_levels", [3, 4])
def test_every_encoding_with_three_and_four_levels(positions: Any, num_levels: int) -> None:
    decoder, out, _ = run(3, 2, positions=positions, num_levels=num_levels)
    assert decoder.dims.strides == (32, 16, 8, 4)[:num_levels]
    assert [tuple(p.shape[1:]) for p in out.positions] == [tuple(level.shape[1:]) for level in out.levels]
    assert len(out.levels) == len(decoder.dims.channels) == num_levels
    assert out.positions[-1].shape[0] == (2 if positions == "conditional" else 1)
    assert len(decoder.inputs) == (4 if (positions, num_levels) == ("conditional", 4) else 3)
    if positions == "learnable":
        assert {"encodings.0.rows", f"encodings.{num_levels - 1}.columns"} <= decoder.undecayed()


def test_conditional_positions_are_convolutions_of_what_enters_the_encoder() -> None:
    decoder, out, levels = run(3, 2, positions="conditional", num_levels=4)
    for entrance, encoding, level, position in zip(
        decoder.inputs, decoder.encodings, levels, out.positions, strict=True
    ):
        z = F.pad(entrance(level), (1, 1, 1, 1))
        around = z.unfold(2, 3, 1).unfold(3, 3, 1)
        expected = (around * encoding.weight[:, 0][:, None, None]).sum((-2, -1)) + encoding.bias[:, None, None]
        torch.testing.assert_close(position, expected, rtol=1e-4, atol=1e-5)
    (reached,) = torch.autograd.grad(out.positions[3].sum(), levels[3:], retain_graph=True)
    assert bool(reached.any())
    fourth = list(decoder.inputs[3].parameters())
    for coarse in out.levels[:3]:
        unused = torch.autograd.grad(coarse.square().sum(), fourth, retain_graph=True, allow_unused=True)
        assert not any(g is not None for g in unused), "the fourth never enters the encoder"
    weight = decoder.encodings[1].weight
    moved = torch.autograd.grad(out.levels[0].square().sum(), weight)[0]
    assert bool(moved.any()), "the encoder looks with these positions"


def test_conditional_positions_and_half_precision() -> None:
    """All four levels may be halved; positions never are."""
    decoder, _, levels = run(3, 2, positions="conditional", num_levels=4)
    halved = tuple(level.bfloat16() for level in levels)
    with torch.autocast("cpu", torch.bfloat16):
        out = decoder(Features(Trunk(torch.empty(2, 6, 16), (3, 2)), halved, halved[-1]))
    assert {p.dtype for p in out.positions} == {torch.float32}
    assert all(bool(level.isfinite().all()) for level in (*out.levels, out.mask_features))


def test_learnable_positions_tell_rows_and_columns() -> None:
    _, out, _ = run(3, 2, positions="learnable")
    p = out.positions[1][0]
    assert torch.equal(p[:16, :, 0], p[:16, :, 3])
    assert torch.equal(p[16:, 0], p[16:, 5])
    assert (p[:16, 0] - p[:16, 5]).abs().max() > 0.1


def test_other_numbers_of_levels_are_refused() -> None:
    with pytest.raises(RecipeError, match="num_levels is 5, but queries read 3 levels or all 4"):
        Deformable(DIMS, num_levels=5)
