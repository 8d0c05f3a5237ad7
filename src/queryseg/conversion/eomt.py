"""EoMT's published checkpoints, in Hugging Face's layout and in that of the authors' training code.

Shape legend: N patches, C width of the trunk, Q queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, check_mean, known_classes, rename, required, run_recipe
from queryseg.errors import CheckpointError

# ───────────────────────────── names ─────────────────────────────

_BLOCK = r"layers\.(\d+)\."
_OURS = r"backbone.blocks.\1."
_HUGGING_FACE: Rules = (
    (r"query\.weight", "queries.content"),
    (r"class_predictor\.(weight|bias)", r"decoder.heads.class_embed.\1"),
    *((rf"mask_head\.fc{i + 1}\.(weight|bias)", rf"decoder.heads.mask_embed.layers.{i}.\1") for i in range(3)),
    (r"upscale_block\.block\.(\d+)\.conv1\.(weight|bias)", r"decoder.upsampler.\1.expand.\2"),
    (r"upscale_block\.block\.(\d+)\.conv2\.weight", r"decoder.upsampler.\1.smooth.weight"),
    (r"upscale_block\.block\.(\d+)\.layernorm2d\.(weight|bias)", r"decoder.upsampler.\1.norm.\2"),
    (r"embeddings\.cls_token", "backbone.stem.cls_token"),
    (r"embeddings\.register_tokens", "backbone.stem.reg_token"),
    (r"embeddings\.position_embeddings\.weight", "backbone.stem.pos_embed"),
    (r"embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)", r"backbone.stem.patch_embed.proj.\1"),
    (r"layernorm\.(weight|bias)", r"backbone.norm.\1"),
    (_BLOCK + r"(norm[12]\.(?:weight|bias))", _OURS + r"\2"),
    *((_BLOCK + rf"attention\.{p}_proj\.(weight|bias)", _OURS + rf"attn.qkv.\2[{i}]") for i, p in enumerate("qkv")),
    (_BLOCK + r"attention\.(?:out|o)_proj\.(weight|bias)", _OURS + r"attn.proj.\2"),
    (_BLOCK + r"layer_scale([12])\.lambda1", _OURS + r"ls\2.gamma"),
    (_BLOCK + r"mlp\.(?:fc1|weights_in)\.(weight|bias)", _OURS + r"mlp.fc1.\2"),
    (_BLOCK + r"mlp\.(?:fc2|weights_out|down_proj)\.(weight|bias)", _OURS + r"mlp.fc2.\2"),
    (_BLOCK + r"mlp\.gate_proj\.(weight|bias)", _OURS + r"mlp.fc1.\2[0]"),
    (_BLOCK + r"mlp\.up_proj\.(weight|bias)", _OURS + r"mlp.fc1.\2[1]"),
)
_HUGGING_FACE_DINOV3: Rules = (
    (_BLOCK + r"attention\.k_proj\.bias", ""),
    (_BLOCK + r"attention\.([qv])_proj\.bias", _OURS + r"attn.\2_bias"),
    (_BLOCK + r"layer_scale([12])\.lambda1", _OURS + r"gamma_\2"),
    (_BLOCK + r"mlp\.up_proj\.(weight|bias)", _OURS + r"mlp.fc1.\2"),
    *_HUGGING_FACE,
)
_AUTHORS: Rules = (  # their trunk is timm's, as ours
    (r"network\.q\.weight", "queries.content"),
    (r"network\.class_head\.(weight|bias)", r"decoder.heads.class_embed.\1"),
    *((rf"network\.mask_head\.{2 * i}\.(weight|bias)", rf"decoder.heads.mask_embed.layers.{i}.\1") for i in range(3)),
    (r"network\.upscale\.(\d+)\.conv1\.(weight|bias)", r"decoder.upsampler.\1.expand.\2"),
    (r"network\.upscale\.(\d+)\.conv2\.weight", r"decoder.upsampler.\1.smooth.weight"),
    (r"network\.upscale\.(\d+)\.norm\.(weight|bias)", r"decoder.upsampler.\1.norm.\2"),
    (r"network\.encoder\.backbone\.((?:blocks|norm)\..+)", r"backbone.\1"),
    (r"network\.encoder\.backbone\.(.+)", r"backbone.stem.\1"),
)

_DINOV2 = {
    (384, 12, 6): "vit_small_patch14_reg4_dinov2",
    (768, 12, 12): "vit_base_patch14_reg4_dinov2",
    (1024, 24, 16): "vit_large_patch14_reg4_dinov2",
    (1536, 40, 24): "vit_giant_patch14_reg4_dinov2",
}
_DINOV3 = {
    (384, 12, 6): "vit_small_patch16_dinov3_qkvb",
    (768, 12, 12): "vit_base_patch16_dinov3_qkvb",
    (1024, 24, 16): "vit_large_patch16_dinov3_qkvb",
}
"""(width, depth, heads) → timm model."""

# ───────────────────────────── conversion ─────────────────────────────


def recognises(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> bool:
    """Whether this is EoMT, with DINOv2 or DINOv3, in either layout."""
    names = tensors.keys()
    return (
        config.get("model_type") in ("eomt", "eomt_dinov3")
        or {"query.weight", "class_predictor.weight", "upscale_block.block.0.conv1.weight"} <= names
        or {"network.q.weight", "network.class_head.weight"} <= names
    )


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as MaskedInjection on PlainViT (DINOv2 with registers) or RotaryViT (DINOv3).

    config: as in `PublishedCheckpoint`; may be empty for the authors' layout, which has none.

    Source: the layouts of transformers' models/eomt, models/eomt_dinov3 and of its conversion scripts (Apache-2.0).

    Raises: CheckpointError for variants that would give other results here, and for missing tensors.
    """
    authors = "network.q.weight" in tensors
    kind = config.get("model_type")
    rotary = kind == "eomt_dinov3" or (not kind and not authors and "layers.0.attention.o_proj.weight" in tensors)
    _check_variant(tensors, config, rotary)
    weights, left_over = rename(tensors, _AUTHORS if authors else _HUGGING_FACE_DINOV3 if rotary else _HUGGING_FACE)
    if "backbone.stem.pos_embed" in weights:
        weights["backbone.stem.pos_embed"] = weights["backbone.stem.pos_embed"].reshape(1, -1, _width(weights))
    probabilities = tensors.get("network.attn_mask_probs" if authors else "attn_mask_probs")
    num_blocks = _count(config, "num_blocks", 4) if probabilities is None else len(probabilities)
    model = {
        "backbone": _backbone(weights, config, rotary),
        "pixel_decoder": "queryseg.pixel_decoders.Identity",
        "queries": {
            "class_path": "queryseg.queries.LearnableQueries",
            "init_args": {"num_queries": len(required(weights, "queries.content"))},
        },
        "decoder": {
            "class_path": "queryseg.decoders.MaskedInjection",
            "init_args": {"num_blocks": num_blocks, "open_empty_masks": False},
        },
        "readout": "queryseg.readouts.Mixture",
    }
    classes, task = known_classes(config, len(required(weights, "decoder.heads.class_embed.bias")) - 1)
    preprocessor = config.get("preprocessor", {})
    side = (preprocessor.get("size") or {}).get("shortest_edge")
    squares = task == "semantic" and preprocessor.get("do_split_image") and side  # along the long side
    protocol = {"short_side": side, "window": side, "stride": side} if squares else None
    return Converted(run_recipe(model, classes, task, protocol), weights, left_over)


def _backbone(weights: Mapping[str, Tensor], config: Mapping[str, Any], rotary: bool) -> dict[str, Any]:
    width = _width(weights)
    depth = len({name.split(".")[2] for name in weights if name.startswith("backbone.blocks.")})
    num_heads = _count(config, "num_attention_heads", width // 64)  # DINOv2's and DINOv3's are 64 wide in every size
    patch = required(weights, "backbone.stem.patch_embed.proj.weight").shape[-1]
    if rotary:
        image_size = config.get("image_size")
    else:
        image_size = patch * math.isqrt(required(weights, "backbone.stem.pos_embed").shape[1])
    known = _DINOV3 if rotary else _DINOV2
    name = known.get((width, depth, num_heads))
    options: dict[str, Any] = {}
    if name is None:
        hidden = len(required(weights, "backbone.blocks.0.mlp.fc1.weight"))
        gated = hidden != required(weights, "backbone.blocks.0.mlp.fc2.weight").shape[1]
        name = known[(1536, 40, 24) if gated else (384, 12, 6)]
        options = {"embed_dim": width, "depth": depth, "num_heads": num_heads, "mlp_ratio": hidden / width}
    num_registers = required(weights, "backbone.stem.reg_token").shape[1]
    if num_registers != 4:
        options["num_reg_tokens" if rotary else "reg_tokens"] = num_registers
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 100.0)
    if rotary and theta != 100:
        options["rope_temperature"] = theta
    arguments = {"name": name, "patch_size": patch, "image_size": image_size, "options": options}
    return {
        "class_path": f"queryseg.backbones.{'RotaryViT' if rotary else 'PlainViT'}",
        "init_args": {key: value for key, value in arguments.items() if value},
    }


def _check_variant(tensors: Mapping[str, Tensor], config: Mapping[str, Any], rotary: bool) -> None:
    """Raises: CheckpointError for what the weights alone do not show."""
    if any(name.startswith("network.encoder.backbone.") and ".k_proj." in name for name in tensors):
        raise CheckpointError(
            "This DINOv3 checkpoint in the authors' layout holds differences to Meta's weights, not weights; give the "
            "Hugging Face version of the same model."
        )
    for name, probabilities in tensors.items():
        if name.endswith("attn_mask_probs") and bool((probabilities > 0).any()):
            raise CheckpointError(
                f"This EoMT was not annealed to the end ({name} is {[round(p, 3) for p in probabilities.tolist()]}), "
                "so it expects masked attention at test time, which queryseg leaves out; train it until they are 0."
            )
        if rotary and name.endswith("attention.k_proj.bias") and bool(tensors[name].any()):
            raise CheckpointError(f"{name} is not 0, but the keys of DINOv3 have no bias here.")
        if rotary and ".mlp.gate_proj." in name:
            raise CheckpointError("This EoMT has a DINOv3 with gated MLPs (S+ or H+), which cannot be converted yet.")
    expected = {"layer_norm_eps": 1e-5 if rotary else 1e-6, "hidden_act": "gelu"}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"This EoMT has {key} {config[key]}, but only {value} can be converted.")
    check_mean(config, "EoMT", "DINOv2 and DINOv3 here expect")


def _width(weights: Mapping[str, Tensor]) -> int:
    return required(weights, "queries.content").shape[1]


def _count(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"config.json gives {key} as {value!r}, but a whole number above 0 is needed.")
    return value
