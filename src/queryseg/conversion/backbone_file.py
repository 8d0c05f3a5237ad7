"""Weights of a backbone alone, in the layout of its authors: which timm model they are, and how a recipe names them.

Shape legend: C width of the trunk, k×k pixels of a patch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from queryseg.backbones.timm_models import family_of
from queryseg.errors import RecipeError

_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant", 1664: "gigantic"}
"""C → what the authors call it."""
BACKBONES: Mapping[str, str] = {
    "DINOv2": "facebookresearch/dinov2; with registers and without, also with patches resized to 16 (Rein, SoMA)",
    "DINOv3": "facebookresearch/dinov3",
    "CLIP": "openai/CLIP (TorchScript archives), open_clip",
    "EVA02-CLIP": "baaivision/EVA, EVA-CLIP",
    "EVA-02": "baaivision/EVA, EVA-02",
    "SAM": "facebookresearch/segment-anything",
}
"""Family → whose files. Names and shapes: timm's converters and models (Apache-2.0), run beside the loader."""


@dataclass(frozen=True)
class BackboneFile:
    """family of `BACKBONES`; class_path and arguments of the backbone in a recipe, without its weights."""

    family: str
    class_path: str
    arguments: Mapping[str, Any]

    def recipe(self, weights: Path) -> dict[str, Any]:
        """`model` of a recipe with these weights."""
        arguments = {"name": self.arguments["name"], "pretrained": str(weights), **self.arguments}
        return {"model": {"backbone": {"class_path": self.class_path, "init_args": arguments}}}


def recognise_backbone(tensors: Mapping[str, Tensor], kind: str = "") -> BackboneFile | None:
    """What a file of weights alone is; None if it is no backbone that is known here. kind: see `ForeignFile`"""
    stems = [
        (m[1], t)
        for name, t in tensors.items()
        if (m := re.fullmatch(r"(.*?)(?:patch_embed\.proj|conv1)\.weight", name))
    ]
    stems = [(root, stem) for root, stem in stems if stem.ndim == 4 and stem.shape[1] == 3]
    if not stems:
        return None
    root, stem = min(stems, key=lambda found: len(found[0]))
    names = {name.removeprefix(root): tensor for name, tensor in tensors.items() if name.startswith(root)}
    width, patch = stem.shape[0], stem.shape[-1]
    size = _SIZES.get(width, "")
    found = _name(names, size, width, patch, kind)
    if found is None or (class_name := _class_of(found[1])) is None:
        return None
    family, name = found
    arguments: dict[str, Any] = {"name": name}
    if family == "DINOv2":
        side = patch * _side(names["pos_embed"].shape[1] - 1)
        if (patch, side) != (14, 518):
            arguments |= {"patch_size": patch, "image_size": side}
    return BackboneFile(family, f"queryseg.backbones.{class_name}", arguments)


def _name(names: Mapping[str, Tensor], size: str, width: int, patch: int, kind: str) -> tuple[str, str] | None:
    """Family and timm model."""
    if "class_embedding" in names:
        side = patch * _side(len(names["positional_embedding"]) - 1)
        activation = "_quickgelu" if kind == "TorchScript" else ""  # OpenAI's own; open_clip's are trained with GELU
        return "CLIP", f"vit_{size}_patch{patch}_clip{activation}_{side}"
    if "blocks.0.attn.inner_attn_ln.weight" in names and "head.weight" in names:
        side = patch * _side(names["pos_embed"].shape[1] - 1)
        return "EVA02-CLIP", f"eva02_{size}_patch{patch}_clip_{side}"
    if "blocks.0.attn.rel_pos_h" in names:
        return "SAM", f"samvit_{size}_patch{patch}"
    if "storage_tokens" in names:
        size = "7b" if width == 4096 else "huge_plus" if width == 1280 else size
        size += "_plus" if size == "small" and "blocks.0.mlp.w1.weight" in names else ""
        biased = f"vit_{size}_patch{patch}_dinov3_qkvb"
        has_bias = "blocks.0.attn.qkv.bias" in names and _class_of(biased) is not None
        return "DINOv3", biased if has_bias else biased.removesuffix("_qkvb")
    if "blocks.0.ls1.gamma" in names and "pos_embed" in names:
        registers = "_reg4" if "register_tokens" in names else ""
        return "DINOv2", f"vit_{size}_patch14{registers}_dinov2"
    if {"blocks.0.mlp.w12.weight", "blocks.0.mlp.w1.weight"} & names.keys() and "pos_embed" in names:
        return "EVA-02", f"eva02_{size}_patch{patch}_{patch * _side(names['pos_embed'].shape[1] - 1)}"
    return None


def _class_of(name: str) -> str | None:
    """The backbone class that drives a timm model; None if timm has none of this name."""
    try:
        return family_of(name)
    except RecipeError:
        return None


def _side(cells: int) -> int:
    return math.isqrt(max(0, cells))
