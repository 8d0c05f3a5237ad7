"""Mask2Former's pixel decoder; its numbers are compared with Hugging Face's in tests/parity."""

from __future__ import annotations

import pytest
import torch

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
