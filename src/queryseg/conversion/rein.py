"""Rein's published checkpoints: an adapter and a head, with DINOv2 in the same file or in one of its own.

Shape legend: L blocks, m tokens, C width of the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, known_classes, rename, required, run_recipe
from queryseg.conversion.dinov2_base import RULES, dinov2_arguments, image_size_of, read_base
from queryseg.conversion.mask2former_mmdetection import HEAD
from queryseg.conversion.mask2former_model import mask2former_model, num_classes
from queryseg.errors import CheckpointError

_REINS = "backbone.reins."
_ADAPTER: Rules = (
    (r"backbone\.reins\.learnable_tokens_a", "backbone.adapter.tokens.left"),
    (r"backbone\.reins\.learnable_tokens_b", "backbone.adapter.tokens.right"),
    (r"backbone\.reins\.scale", "backbone.adapter.scale"),
    (r"backbone\.reins\.mlp_token2feat\.(.+)", r"backbone.adapter.token_to_feature.\1"),
    (r"backbone\.reins\.mlp_delta_f\.(.+)", r"backbone.adapter.refine.\1"),
    (r"backbone\.reins\.transform\.(.+)", r"backbone.adapter.link.transform.\1"),
    (r"backbone\.reins\.merge\.(.+)", r"backbone.adapter.link.combine.\1"),
    (r"decode_head\.querys2feat\.(.+)", r"queries.content.\1"),
    (r"decode_head\.query_(?:feat|embed)\.weight", ""),  # the link replaces both
)


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the adapter at `backbone.reins`, wherever it is."""
    end = "mlp_delta_f.weight"
    places = [name.removesuffix(end) for name in tensors if name.startswith("backbone.") and name.endswith("." + end)]
    if len(places) != 1:
        return dict(tensors)
    return {
        _REINS + name.removeprefix(places[0]) if name.startswith(places[0]) else name: tensor
        for name, tensor in tensors.items()
    }


def complete(tensors: Mapping[str, Tensor], base: Path | None, source: str) -> dict[str, Tensor]:
    """With the trunk's tensors, from `base` where the checkpoint has none.

    Raises: CheckpointError if a base is needed and not given, or the reverse
    """
    whole = "backbone.patch_embed.proj.weight" in tensors
    check_base(whole, base, source, "Rein")
    if base is None:
        return dict(tensors)
    tokens = required(tensors, f"{_REINS}learnable_tokens_b")
    trunk = read_base(base, tokens.shape[2], tokens.shape[0])
    return {**{f"backbone.{name}": tensor for name, tensor in trunk.items()}, **tensors}


def check_base(whole: bool, base: Path | None, source: str, method: str) -> None:
    """Raises: CheckpointError"""
    if whole and base is not None:
        raise CheckpointError(f"{source} holds its backbone; leave --base {base} out.")
    if not whole and base is None:
        raise CheckpointError(
            f"{source} holds {method}'s own weights and not the backbone that they were trained on; give that with "
            "--base, e.g. dinov2_vitl14_pretrain.pth."
        )


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PlainViT with the adapter Rein, Deformable, LinkedQueries and CrossAttention.

    Raises: CheckpointError for missing tensors
    """
    weights, left_over = rename(tensors, (*_ADAPTER, *HEAD, *RULES))
    blocks, number, rank = required(weights, "backbone.adapter.tokens.left").shape
    table = required(weights, "backbone.stem.pos_embed")
    backbone = {
        "class_path": "queryseg.backbones.PlainViT",
        "init_args": dinov2_arguments(table.shape[2], blocks, image_size_of(table)),
    }
    model = mask2former_model(weights, backbone, queries="queryseg.queries.LinkedQueries")
    adapter = {"class_path": "queryseg.adapters.Rein", "init_args": {"num_tokens": number, "rank": rank}}
    classes, task = known_classes(config, num_classes(weights))
    return Converted(run_recipe({**model, "adapter": adapter}, classes, task), weights, left_over)
