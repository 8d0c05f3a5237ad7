"""One linear layer per level."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from queryseg.backbones import PlainViT
from queryseg.decoders import CrossAttention
from queryseg.errors import RecipeError
from queryseg.ops.sine_positions import sine_positions
from queryseg.pixel_decoders import Deformable, Projected
from queryseg.queries import LearnableQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, build_segmenter
from queryseg.types import Dims, Features, Trunk

DIMS = Dims(("a",), 16, 2, (16, 12, 8, 4), (32, 16, 8, 4), 4, 16)


def features() -> Features:
    levels = tuple(torch.randn(2, c, 3 << k, 2 << k, dtype=torch.float64) for k, c in enumerate(DIMS.channels))
    return Features(Trunk(torch.empty(2, 6, 16), (3, 2)), levels, levels[-1])


@pytest.mark.parametrize("read", [(0, 1, 2), (1,), (2, 0)])
def test_each_level_passes_its_own_linear_layer(read: tuple[int, ...]) -> None:
    decoder, given = Projected(DIMS, 8, read).double(), features()
    out = decoder(given)
    assert decoder.dims == replace(
        DIMS, channels=(8,) * len(read), strides=tuple(DIMS.strides[k] for k in read), mask_channels=8, width=8
    )
    for place, level in enumerate(read):
        layer = decoder.inputs[place]
        x = given.levels[level].permute(0, 2, 3, 1)
        expected = F.linear(x, layer.weight[..., 0, 0], layer.bias) + decoder.level_embed[place]
        torch.testing.assert_close(out.levels[place], expected.permute(0, 3, 1, 2), rtol=0, atol=1e-12)
        assert torch.equal(out.positions[place], sine_positions(out.levels[place]))
    fine = F.linear(given.levels[-1].permute(0, 2, 3, 1), decoder.mask_projection.weight[..., 0, 0])
    torch.testing.assert_close(out.mask_features, fine.permute(0, 3, 1, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [Projected, Deformable])
def test_one_level_is_refused(kind: type[Projected] | type[Deformable]) -> None:
    """A single level would leave the trunk's final norm without gradient, which stops distributed training."""
    vit = PlainViT("vit_tiny_patch16_224", options={"embed_dim": 32, "depth": 2, "num_heads": 2})
    with pytest.raises(
        RecipeError, match="reads four feature levels, but the backbone gives 1; set the backbone's pyr"
    ):
        build_segmenter(["a"], Parts(vit, kind, LearnableQueries, CrossAttention, Mixture))


@pytest.mark.parametrize("levels", [(), (0, 0), (4,), (-1,)])
def test_levels_that_do_not_exist_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=r"levels is \[.*must name some of 0, 1, 2, 3, each once"):
        Projected(DIMS, 8, levels)


def test_a_width_without_sine_positions_is_refused() -> None:
    with pytest.raises(RecipeError, match="width is 10, but sine positions need a multiple of 4"):
        Projected(DIMS, 10)
