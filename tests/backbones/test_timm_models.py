"""Names of timm models, right and wrong."""

from __future__ import annotations

import pytest

from queryseg.backbones.timm_models import build_model, check_family, family_of, has_joint_head
from queryseg.errors import RecipeError


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("vit_large_patch14_dinov2.lvd142m", "PlainViT"),
        ("deit3_small_patch16_224", "PlainViT"),
        ("vit_small_r26_s32_224", "PlainViT"),
        ("eva02_large_patch14_clip_336", "RotaryViT"),
        ("vit_large_patch16_dinov3", "RotaryViT"),
        ("samvit_huge_patch16", "SamViT"),
        ("resnet50", "PyramidBackbone"),
    ],
)
def test_every_model_has_one_family(name: str, family: str) -> None:
    assert family_of(name) == family
    check_family(name, family)


def test_wrong_names_get_the_nearest_right_one() -> None:
    with pytest.raises(RecipeError, match=r"did you mean .*vit_large_patch14_dinov2"):
        family_of("vit_large_patch14_dinv2")
    with pytest.raises(RecipeError, match=r"timm\.list_models"):
        family_of("qqqq")
    with pytest.raises(RecipeError, match="its tags are lvd142m"):
        family_of("vit_large_patch14_dinov2.lvd")
    with pytest.raises(RecipeError, match=r"use queryseg\.backbones\.RotaryViT"):
        check_family("eva02_tiny_patch14_224", "PlainViT")
    with pytest.raises(RecipeError, match=r"use queryseg\.backbones\.PyramidBackbone"):
        check_family("resnet50", "PlainViT")


def test_joint_heads() -> None:
    assert has_joint_head("vit_base_patch16_clip_quickgelu_224.openai")
    assert not has_joint_head("vit_base_patch16_clip_224.laion2b_ft_in12k_in1k")
    assert not has_joint_head("vit_base_patch16_224")


def test_stems_of_their_own_take_no_patch_size() -> None:
    with pytest.raises(RecipeError, match="leave patch_size out"):
        build_model("vit_small_r26_s32_224", "PlainViT", 16, None, "pad", {})
    with pytest.raises(RecipeError, match=r"timm cannot build 'vit_small_patch16_224' with .*num_heads=5"):
        build_model("vit_small_patch16_224", "PlainViT", None, None, "pad", {"embed_dim": 32, "num_heads": 5})
