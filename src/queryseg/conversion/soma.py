"""SoMA's published checkpoints, merged: what is left is DINOv2 with other weights, and Mask2Former's head.

Shape legend: O outputs, I inputs of a linear layer, R rank, C width of the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, known_classes, rename, required, run_recipe
from queryseg.conversion.dinov2_base import RULES, dinov2_arguments, image_size_of, read_base
from queryseg.conversion.mask2former_mmdetection import HEAD
from queryseg.conversion.mask2former_model import count, mask2former_model, num_classes
from queryseg.conversion.rein import check_base

_MODEL = "backbone.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_TRUNK: Rules = tuple(
    (rf"backbone\.(blocks\.\d+\.attn)\.{part}\.(weight|bias)", rf"backbone.\1.qkv.\2[{index}]")
    for index, part in enumerate("qkv")
)


def complete(tensors: Mapping[str, Tensor], base: Path | None, source: str) -> dict[str, Tensor]:
    """With the trunk's tensors. Where the checkpoint has none, they are those of `base` less their minor components:
    the authors' training starts by splitting these off, and files of the adapter alone do not hold what remains.

    Raises: CheckpointError if a base is needed and not given, or the reverse
    """
    whole = f"{_MODEL}patch_embed.proj.weight" in tensors
    check_base(whole, base, source, "SoMA")
    if base is None:
        return dict(tensors)
    depth = 1 + max(int(name.split(".")[3]) for name in tensors if name.endswith(_DOWN))
    trunk = read_base(base, required(tensors, f"{_MODEL}blocks.{depth - 1}.attn.q{_DOWN}").shape[1], depth)
    filled: dict[str, Tensor] = {}
    for name, tensor in trunk.items():
        parts = dict(zip("qkv", tensor.chunk(3), strict=True)) if ".qkv." in name else {"qkv": tensor}
        for part, value in parts.items():
            full = _MODEL + name.replace(".qkv.", f".{part}.")
            down = tensors.get(full.removesuffix(".weight") + _DOWN)
            filled[full] = value if down is None else _without_minor(value, len(down))
    return {**filled, **tensors}


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PlainViT, Deformable, LearnableQueries and CrossAttention; no trace of the adapter.

    Raises: CheckpointError for missing tensors
    """
    merged = {name: tensor for name, tensor in tensors.items() if not name.endswith((_DOWN, _UP))}
    for name in tensors:
        if name.endswith(_DOWN):
            layer = name.removesuffix(_DOWN)
            change = required(tensors, layer + _UP) @ tensors[name]  # (O, I); alpha is the rank: no further scale
            merged[f"{layer}.weight"] = required(tensors, f"{layer}.weight") + change
    plain = {name.replace(_MODEL, "backbone.", 1): tensor for name, tensor in merged.items()}
    weights, left_over = rename(plain, (*HEAD, *_TRUNK, *RULES))
    table = required(weights, "backbone.stem.pos_embed")
    size = image_size_of(table)
    backbone = {
        "class_path": "queryseg.backbones.PlainViT",
        "init_args": dinov2_arguments(table.shape[2], count(weights, "backbone.blocks."), size),
    }
    classes, task = known_classes(config, num_classes(weights))
    return Converted(run_recipe(mask2former_model(weights, backbone), classes, task), weights, left_over)


def _without_minor(weight: Tensor, rank: int) -> Tensor:
    """(O, I) less its `rank` smallest singular components."""
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    minor: Tensor = (left[:, -rank:] * sizes[-rank:]) @ right[-rank:]
    return weight - minor
