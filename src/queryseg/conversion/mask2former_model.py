"""What every layout of Mask2Former, and of what extends it, becomes: a backbone, Deformable, queries, CrossAttention.

Shape legend: Q queries, D width of queries and levels, C width of Swin's first stage, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from queryseg.conversion.converted import required

_SWIN: Mapping[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "swin_tiny_patch4_window7_224",
    (96, (2, 2, 18, 2)): "swin_small_patch4_window7_224",
    (128, (2, 2, 18, 2)): "swin_base_patch4_window12_384",
    (192, (2, 2, 18, 2)): "swin_large_patch4_window12_384",
}
"""(C, blocks per stage) → timm model."""
_RESNET: Mapping[tuple[int, ...], str] = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101"}
"""Blocks per stage → timm model."""


def num_classes(weights: Mapping[str, Tensor]) -> int:
    """K; the last row of the class layer is "no object". Raises: CheckpointError"""
    return len(required(weights, "decoder.heads.class_embed.bias")) - 1


def mask2former_model(
    weights: Mapping[str, Tensor],
    backbone: Mapping[str, Any],
    num_heads: int = 8,
    num_exchanges: int | None = None,
    num_layers: int | None = None,
    queries: Mapping[str, Any] | str | None = None,
    levels: Mapping[str, Any] | None = None,
    decoder: str = "queryseg.decoders.CrossAttention",
) -> dict[str, Any]:
    """`model` of a recipe, its sizes read from converted weights.

    num_heads      of every attention; weights do not tell them, and all published models have 8
    num_exchanges  layers of the pixel decoder; None: as many as the weights have
    num_layers     of the decoder; None: as many as the weights have
    queries        of the recipe; None: learnable contents and positions (Q, D)
    levels         further arguments of the pixel decoder
    decoder        CrossAttention, or a class that extends it

    Raises: CheckpointError
    """
    num_samples = len(required(weights, "pixel_decoder.layers.0.attention.weights.bias"))
    if queries is None:
        arguments = {"num_queries": len(required(weights, "queries.content")), "position": True}
        queries = {"class_path": "queryseg.queries.LearnableQueries", "init_args": arguments}
    return {
        "backbone": dict(backbone),
        "pixel_decoder": {
            "class_path": "queryseg.pixel_decoders.Deformable",
            "init_args": {
                "width": required(weights, "pixel_decoder.encoder_level_embed").shape[1],
                "num_layers": num_exchanges or count(weights, "pixel_decoder.layers."),
                "hidden": len(required(weights, "pixel_decoder.layers.0.expand.bias")),
                "num_heads": num_heads,
                "num_points": num_samples // (3 * num_heads),
                **(levels or {}),
            },
        },
        "queries": queries,
        "decoder": {
            "class_path": decoder,
            "init_args": {
                "num_layers": num_layers or count(weights, "decoder.layers."),
                "hidden": len(required(weights, "decoder.layers.0.expand.bias")),
                "num_heads": num_heads,
            },
        },
        "readout": "queryseg.readouts.Mixture",
    }


def swin_backbone(weights: Mapping[str, Tensor], depths: Sequence[int] | None = None) -> dict[str, Any]:
    """`model.backbone` of a recipe. depths: blocks per stage; None: as many as the weights have.

    Raises: CheckpointError
    """
    stages = [f"backbone.net.layers_{stage}.blocks." for stage in range(4)]
    tables = [required(weights, f"{stage}0.attn.relative_position_bias_table") for stage in stages]
    width = len(required(weights, "backbone.net.patch_embed.proj.weight"))
    depths = list(depths or [count(weights, stage) for stage in stages])
    options = {
        "embed_dim": width,
        "depths": depths,
        "num_heads": [table.shape[1] for table in tables],
        "window_size": (math.isqrt(len(tables[0])) + 1) // 2,
        "mlp_ratio": len(required(weights, f"{stages[0]}0.mlp.fc1.bias")) / width,
        "qkv_bias": f"{stages[0]}0.attn.qkv.bias" in weights,
        "always_partition": True,  # windows keep their size on small images
    }
    name = _SWIN.get((width, tuple(depths)), "swin_tiny_patch4_window7_224")
    return {
        "class_path": "queryseg.backbones.PyramidBackbone",
        "init_args": {"name": name, "norms": True, "options": options},
    }


def resnet_backbone(weights: dict[str, Tensor]) -> dict[str, Any]:
    """`model.backbone` of a recipe; counters of batch norms, which frozen ones lack, are added to the weights."""
    for name in [name for name in weights if name.endswith(".running_mean")]:
        weights.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    depths = tuple(count(weights, f"backbone.net.layer{stage}.") for stage in range(1, 5))
    options = {} if depths in _RESNET else {"options": {"layers": list(depths)}}
    return {
        "class_path": "queryseg.backbones.PyramidBackbone",
        "init_args": {"name": _RESNET.get(depths, "resnet50"), **options},
    }


def count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Blocks or layers under a prefix."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in weights if name.startswith(prefix)})
