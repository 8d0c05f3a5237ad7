"""Tiny models of every family, with weights large enough that blocks change their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from queryseg.backbones import PlainViT, RotaryViT, SamViT
from queryseg.backbones.vision_transformer import VisionTransformer

TINY: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2}
SCALED = {**TINY, "init_values": 1.0}  # the published 1e-5 would make every block the identity
FAMILIES: dict[str, tuple[type[VisionTransformer], str, dict[str, Any]]] = {
    "vit": (PlainViT, "vit_small_patch16_224", TINY),
    "dinov2": (PlainViT, "vit_small_patch14_dinov2", SCALED),
    "dinov2-registers": (PlainViT, "vit_small_patch14_reg4_dinov2", SCALED),
    "deit-distilled": (PlainViT, "deit_tiny_distilled_patch16_224", TINY),
    "clip": (PlainViT, "vit_base_patch16_clip_quickgelu_224.openai", {**TINY, "num_classes": 16}),
    "hybrid": (PlainViT, "vit_tiny_r_s16_p8_224", TINY),
    "dinov3": (RotaryViT, "vit_small_patch16_dinov3", SCALED),
    "eva02": (RotaryViT, "eva02_tiny_patch14_224", TINY),
    "eva02-clip": (RotaryViT, "eva02_large_patch14_clip_336", {**TINY, "num_classes": 16}),
    "rope-mixed": (RotaryViT, "vit_small_patch16_rope_mixed_224", TINY),
    "sam": (SamViT, "samvit_base_patch16", {**TINY, "img_size": 64, "window_size": 3, "global_attn_indexes": (0, 2)}),
}


def shake(module: nn.Module, seed: int = 0) -> None:
    """Random values for every parameter: matrices and tables N(0, 0.2²), vectors N(1, 0.2²)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(float(parameter.ndim < 2), 0.2, generator=generator)


@pytest.fixture
def make() -> Callable[..., VisionTransformer]:
    def make(family: str, **arguments: Any) -> VisionTransformer:
        kind, name, options = FAMILIES[family]
        backbone = kind(name, options={**options, **arguments.pop("options", {})}, **arguments)
        shake(backbone)
        return backbone.eval()

    return make


@pytest.fixture
def timm_twin() -> Callable[..., Any]:
    """timm's own model with the weights of a backbone, without its neck (SAM)."""

    def twin(family: str, backbone: VisionTransformer) -> Any:
        kind, name, options = FAMILIES[family]
        sizes = {} if kind is SamViT else {"dynamic_img_size": True}
        model: Any = timm.create_model(name, **{**options, **sizes, "num_classes": 0})
        model.fc_norm = model.head = model.neck = nn.Identity()
        state = {key.removeprefix("stem."): value for key, value in backbone.state_dict().items()}
        ours_alone = ("project.", "norm.") if family in ("eva02", "sam") else ("project.",)
        model.load_state_dict({key: value for key, value in state.items() if not key.startswith(ours_alone)})
        return model.eval()

    return twin
