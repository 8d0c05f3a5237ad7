"""Backbones in the layouts of their authors are recognised, and a recipe can name what comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from queryseg.backbones import PlainViT
from queryseg.cli.main import main
from queryseg.conversion.backbone_file import recognise_backbone


def meta(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.empty(shape, device="meta") for name, shape in shapes.items()}


def trunk(width: int, patch: int, positions: int, **more: tuple[int, ...]) -> dict[str, Tensor]:
    return meta(patch_embed__proj__weight=(width, 3, patch, patch), pos_embed=(1, positions, width), **more)


LAYER_SCALE = {"blocks__0__ls1__gamma": (1,)}
GATED = {"blocks__0__mlp__w1__weight": (1, 1)}
PLUS = "vit_small_plus_patch16_dinov3_qkvb"
EVA_CLIP = {"blocks__0__attn__inner_attn_ln__weight": (1,), "head__weight": (768, 1024)}
FUSED_BIAS = {"blocks__0__attn__qkv__bias": (1,), **LAYER_SCALE, "storage_tokens": (1, 4, 1)}


def clip(width: int, patch: int, positions: int) -> dict[str, Tensor]:
    text = {"positional_embedding": torch.empty(77, 512, device="meta")}
    visual = meta(
        visual__conv1__weight=(width, 3, patch, patch),
        visual__class_embedding=(width,),
        visual__positional_embedding=(positions, width),
    )
    return {**text, **visual}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


CASES: list[tuple[dict[str, Tensor], str, str, dict[str, Any]]] = [
    (trunk(1024, 14, 1370, **LAYER_SCALE), "", "vit_large_patch14_dinov2", {}),
    (trunk(768, 14, 1370, register_tokens=(1, 4, 768), **LAYER_SCALE), "", "vit_base_patch14_reg4_dinov2", {}),
    (trunk(1024, 16, 1025, **LAYER_SCALE), "", "vit_large_patch14_dinov2", {"patch_size": 16, "image_size": 512}),
    (meta(patch_embed__proj__weight=(1024, 3, 16, 16), **FUSED_BIAS), "", "vit_large_patch16_dinov3_qkvb", {}),
    (meta(patch_embed__proj__weight=(384, 3, 16, 16), **FUSED_BIAS), "", "vit_small_patch16_dinov3_qkvb", {}),
    (meta(patch_embed__proj__weight=(384, 3, 16, 16), **FUSED_BIAS, **GATED), "", PLUS, {}),
    (clip(1024, 14, 577), "TorchScript", "vit_large_patch14_clip_quickgelu_336", {}),
    (clip(768, 16, 197), "TorchScript", "vit_base_patch16_clip_quickgelu_224", {}),
    (clip(768, 16, 197), "PyTorch", "vit_base_patch16_clip_224", {}),
    (
        prefixed("visual.", trunk(1024, 14, 577, **EVA_CLIP)),
        "",
        "eva02_large_patch14_clip_336",
        {},
    ),
    (trunk(1024, 14, 1025, **GATED), "", "eva02_large_patch14_448", {}),
    (
        prefixed(
            "image_encoder.",
            {
                **trunk(1280, 16, 1, blocks__0__attn__rel_pos_h=(27, 80)),
                "pos_embed": torch.empty(1, 64, 64, 1280, device="meta"),
            },
        ),
        "",
        "samvit_huge_patch16",
        {},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tensors", "kind", "name", "more"), CASES, ids=[case[2] + case[1] for case in CASES])
def test_the_timm_model_is_told_from_names_and_shapes(tensors, kind, name, more):
    found = recognise_backbone(tensors, kind)
    assert found is not None
    assert found.arguments == {"name": name, **more}


@pytest.mark.parametrize(
    "tensors",
    [
        {"a.weight": torch.ones(2)},
        meta(conv1__weight=(64, 3, 7, 7)),  # a ResNet
        trunk(1000, 14, 1370, **LAYER_SCALE),  # no published width
        clip(768, 15, 197),
    ],
)
def test_other_files_are_no_backbones(tensors):
    assert recognise_backbone(tensors) is None


def test_a_recipe_can_name_what_comes_out(tmp_path, capsys):
    """DINOv2-S, as its authors save it, through the command line; the same features as timm's."""
    theirs: Any = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=28, dynamic_img_size=True)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    torch.save({**theirs.state_dict(), "mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14_pretrain.pth")
    out, account = tmp_path / "out", tmp_path / "account.json"
    file = str(tmp_path / "dinov2_vits14_pretrain.pth")
    assert main(["convert", file, "--out", str(out), "--json", str(account)]) == 0
    told = capsys.readouterr().out
    assert "is DINOv2, a backbone alone: vit_small_patch14_dinov2" in told
    assert "left over: mask_token" in told
    assert json.loads(account.read_text())["left_over"] == ["mask_token"]
    part = yaml.safe_load((out / "backbone.yaml").read_text())["model"]["backbone"]
    assert part["class_path"] == "queryseg.backbones.PlainViT"
    assert load_file(part["init_args"]["pretrained"]).keys() == theirs.state_dict().keys() | {"mask_token"}
    ours = PlainViT(**part["init_args"]).eval()
    images = torch.randn(1, 3, 28, 42)
    with torch.no_grad():
        found = ours.finish(ours(images, 12).trunk).tokens
        torch.testing.assert_close(found, theirs.eval().forward_features(images), rtol=1e-4, atol=1e-4)
    assert main(["convert", file, "--out", str(out)]) == 2
    assert "already holds a model" in capsys.readouterr().err
    assert main(["convert", file, "--out", str(tmp_path / "x"), "--classes", "cityscapes", "--things", "car"]) == 2
    assert "a backbone alone; leave --classes and --things out." in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_backbone_that_is_not_whole(tmp_path, capsys):
    state = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=28).state_dict()
    del state["blocks.3.norm1.bias"]
    torch.save(state, tmp_path / "x.pth")
    assert main(["convert", str(tmp_path / "x.pth"), "--out", str(tmp_path / "out")]) == 2
    assert "'blocks.3.norm1.bias' is not among them" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
