"""The stem of small convolutions."""

from __future__ import annotations

import pytest
import torch

from queryseg.backbones import PlainViT
from queryseg.errors import RecipeError

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize("patch_size", [4, 8, 16])
def test_embeds_a_grid_of_patches(patch_size: int) -> None:
    backbone = PlainViT("vit_small_patch16_224", stem="convolution", patch_size=patch_size, image_size=48, options=TINY)
    images = torch.randn(2, 3, 48, 80)
    trunk = backbone.advance(backbone.begin(images), 2)
    assert trunk.grid == (48 // patch_size, 80 // patch_size)
    assert backbone.dims.strides == (patch_size,)
    trunk.patches.square().sum().backward()
    stem = backbone.stem.patch_embed
    assert all(parameter.grad is not None for parameter in stem.parameters())
    assert [layer.stride for layer in stem.convolutions if isinstance(layer, torch.nn.Conv2d)] == [(2, 2)] * (
        patch_size.bit_length() - 1
    )


def test_other_patch_sizes_are_refused() -> None:
    with pytest.raises(RecipeError, match="patch_size 4, 8 or 16, not 14"):
        PlainViT("vit_small_patch16_224", stem="convolution", patch_size=14, options=TINY)
