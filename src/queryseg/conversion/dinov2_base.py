"""DINOv2 below a method's own weights: as a recipe names it, and from a file of its own.

Shape legend: C width of the trunk, N positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from queryseg.backbones import PlainViT
from queryseg.conversion.converted import Rules
from queryseg.errors import CheckpointError
from queryseg.weight_file import read_tensors

PATCH, IMAGE = 16, 512
"""What Rein and SoMA resize DINOv2 to, whose own patches are 14 wide."""
_NAMES = {
    (384, 12): "vit_small_patch14_dinov2",
    (768, 12): "vit_base_patch14_dinov2",
    (1024, 24): "vit_large_patch14_dinov2",
}
RULES: Rules = (
    (r"backbone\.mask_token", ""),
    (r"backbone\.((?:blocks|norm)\..+)", r"backbone.\1"),
    (r"backbone\.((?:cls_token|pos_embed|patch_embed\.).*)", r"backbone.stem.\1"),
)
"""The authors' names, under `backbone.`, → ours."""


def dinov2_arguments(width: int, depth: int, image_size: int) -> dict[str, Any]:
    """Arguments of PlainViT with patches of 16 and the pyramid of Mask2Former."""
    name = _NAMES.get((width, depth))
    options = {} if name else {"options": {"embed_dim": width, "depth": depth, "num_heads": max(1, width // 64)}}
    return {
        "name": name or "vit_small_patch14_dinov2",
        "patch_size": PATCH,
        "image_size": image_size,
        "pyramid": "bilinear",
        **options,
    }


def image_size_of(positions: Tensor) -> int:
    """Pixels along a side of the images that a position table (1, N, C) is for."""
    return PATCH * math.isqrt(positions.shape[1] - 1)


def read_base(path: Path, width: int, depth: int) -> dict[str, Tensor]:
    """DINOv2's tensors under their authors' names, resized to patches of 16 (plain bicubic, as published) if need be.

    Raises: CheckpointError if the file is something else
    """
    found = read_tensors(str(path))
    kernel = found.get("patch_embed.proj.weight")
    if kernel is None or "pos_embed" not in found or kernel.shape[0] != width:
        raise CheckpointError(
            f"{path} is not the DINOv2 of width {width} that the checkpoint was trained on; give "
            "dinov2_*_pretrain.pth, or what the authors' scripts make of it."
        )
    if kernel.shape[-1] == PATCH:
        return {name: tensor for name, tensor in found.items() if name != "mask_token"}
    arguments = {**dinov2_arguments(width, depth, IMAGE), "pyramid": "none"}
    state: Mapping[str, Tensor] = PlainViT(**arguments, pretrained=str(path)).state_dict()
    return {name.removeprefix("stem."): tensor for name, tensor in state.items()}
