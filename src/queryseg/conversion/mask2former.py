"""Hugging Face's Mask2Former checkpoints with a Swin trunk (facebook/mask2former-swin-*).

Shape legend: D width of queries and levels, C width of Swin's first stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, check_mean, known_classes, rename, run_recipe
from queryseg.conversion.mask2former_model import mask2former_model, num_classes, swin_backbone
from queryseg.errors import CheckpointError

# ───────────────────────────── names ─────────────────────────────

_SWIN = r"model\.pixel_level_module\.encoder\.(?:swin\.)?"  # transformers 5 has the second part, files do not
_BLOCK = _SWIN + r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
_OUR_BLOCK = r"backbone.net.layers_\1.blocks.\2."
_PIXELS = r"model\.pixel_level_module\.decoder\."
_QUERIES = r"model\.transformer_module\."
_BOTH = r"(weight|bias)"

_BACKBONE: Rules = (
    (_SWIN + r"embeddings\.patch_embeddings\.projection\." + _BOTH, r"backbone.net.patch_embed.proj.\1"),
    (_SWIN + r"embeddings\.norm\." + _BOTH, r"backbone.net.patch_embed.norm.\1"),
    *(  # theirs halves a map behind a stage, timm's before the next one
        (_SWIN + rf"encoder\.layers\.{i}\.downsample\.(.+)", rf"backbone.net.layers_{i + 1}.downsample.\1")
        for i in range(3)
    ),
    *((_SWIN + rf"hidden_states_norms\.stage{i + 1}\.{_BOTH}", rf"backbone.norms.{3 - i}.\1") for i in range(4)),
    *(
        (_BLOCK + rf"attention\.(?:self\.{name}|{name[0]}_proj)\.{_BOTH}", _OUR_BLOCK + rf"attn.qkv.\3[{i}]")
        for i, name in enumerate(("query", "key", "value"))
    ),
    (
        _BLOCK + r"attention\.(?:self|relative_position_bias)\.relative_position_bias_table",
        _OUR_BLOCK + "attn.relative_position_bias_table",
    ),
    (_BLOCK + r"attention\.(?:output\.dense|o_proj)\." + _BOTH, _OUR_BLOCK + r"attn.proj.\3"),
    (_BLOCK + r"layernorm_before\." + _BOTH, _OUR_BLOCK + r"norm1.\3"),
    (_BLOCK + r"layernorm_after\." + _BOTH, _OUR_BLOCK + r"norm2.\3"),
    (_BLOCK + r"(?:intermediate\.dense|mlp\.fc1)\." + _BOTH, _OUR_BLOCK + r"mlp.fc1.\3"),
    (_BLOCK + r"(?:output\.dense|mlp\.fc2)\." + _BOTH, _OUR_BLOCK + r"mlp.fc2.\3"),
)
_PIXEL_LAYER = _PIXELS + r"encoder\.layers\.(\d+)\."
_OUR_PIXEL_LAYER = r"pixel_decoder.layers.\1."
_PIXEL_DECODER: Rules = (
    (_PIXELS + r"input_projections\.(.+)", r"pixel_decoder.inputs.\1"),
    (_PIXELS + r"level_embed", "pixel_decoder.encoder_level_embed"),
    (_PIXEL_LAYER + r"self_attn\.sampling_offsets\." + _BOTH, _OUR_PIXEL_LAYER + r"attention.offsets.\2"),
    (_PIXEL_LAYER + r"self_attn\.attention_weights\." + _BOTH, _OUR_PIXEL_LAYER + r"attention.weights.\2"),
    (_PIXEL_LAYER + r"self_attn\.value_proj\." + _BOTH, _OUR_PIXEL_LAYER + r"attention.value.\2"),
    (_PIXEL_LAYER + r"self_attn\.output_proj\." + _BOTH, _OUR_PIXEL_LAYER + r"attention.out.\2"),
    (_PIXEL_LAYER + r"self_attn_layer_norm\." + _BOTH, _OUR_PIXEL_LAYER + r"attention_norm.\2"),
    (_PIXEL_LAYER + r"fc1\." + _BOTH, _OUR_PIXEL_LAYER + r"expand.\2"),
    (_PIXEL_LAYER + r"fc2\." + _BOTH, _OUR_PIXEL_LAYER + r"reduce.\2"),
    (_PIXEL_LAYER + r"final_layer_norm\." + _BOTH, _OUR_PIXEL_LAYER + r"feed_forward_norm.\2"),
    (_PIXELS + r"adapter_1\.(.+)", r"pixel_decoder.lateral.\1"),
    (_PIXELS + r"layer_1\.(.+)", r"pixel_decoder.smooth.\1"),
    (_PIXELS + r"mask_projection\." + _BOTH, r"pixel_decoder.mask_projection.\1"),
    (_QUERIES + r"level_embed\.weight", "pixel_decoder.decoder_level_embed"),
)
_LAYER = _QUERIES + r"decoder\.layers\.(\d+)\."
_OUR_LAYER = r"decoder.layers.\1."
_DECODER: Rules = (
    (_QUERIES + r"queries_features\.weight", "queries.content"),
    (_QUERIES + r"queries_embedder\.weight", "queries.position"),
    (_LAYER + r"cross_attn\.(in_proj_weight|in_proj_bias|out_proj\..+)", _OUR_LAYER + r"cross_attention.\2"),
    (_LAYER + r"cross_attn_layer_norm\." + _BOTH, _OUR_LAYER + r"cross_attention_norm.\2"),
    *(
        (_LAYER + rf"self_attn\.{p}_proj\.{_BOTH}", _OUR_LAYER + rf"self_attention.in_proj_\2[{i}]")
        for i, p in enumerate("qkv")
    ),
    (_LAYER + r"self_attn\.out_proj\." + _BOTH, _OUR_LAYER + r"self_attention.out_proj.\2"),
    (_LAYER + r"self_attn_layer_norm\." + _BOTH, _OUR_LAYER + r"self_attention_norm.\2"),
    (_LAYER + r"fc1\." + _BOTH, _OUR_LAYER + r"expand.\2"),
    (_LAYER + r"fc2\." + _BOTH, _OUR_LAYER + r"reduce.\2"),
    (_LAYER + r"final_layer_norm\." + _BOTH, _OUR_LAYER + r"feed_forward_norm.\2"),
    (_QUERIES + r"decoder\.layernorm\." + _BOTH, r"decoder.heads.norm.\1"),
    (
        _QUERIES + rf"decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.{_BOTH}",
        r"decoder.heads.mask_embed.layers.\1.\2",
    ),
    (r"class_predictor\." + _BOTH, r"decoder.heads.class_embed.\1"),
)
RULES: Rules = (*_BACKBONE, *_PIXEL_DECODER, *_DECODER)

# ───────────────────────────── conversion ─────────────────────────────


def recognises(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> bool:
    """Whether this is Mask2Former in Hugging Face's layout, whatever its backbone."""
    return config.get("model_type") == "mask2former" or "model.transformer_module.queries_features.weight" in tensors


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PyramidBackbone, Deformable, LearnableQueries and CrossAttention.

    config: of config.json; preprocessor_config.json under its key `preprocessor`, if there is one.

    Source: the layout of transformers' models/mask2former and models/swin (Apache-2.0).

    Raises: CheckpointError for variants that would give other results here, and for missing tensors.
    """
    _check_variant(tensors, config)
    weights, left_over = rename(tensors, RULES)
    trunk = config.get("backbone_config") or {}
    model = mask2former_model(
        weights,
        swin_backbone(weights, trunk.get("depths")),
        num_heads=config.get("num_attention_heads", 8),
        num_exchanges=config.get("encoder_layers"),
        num_layers=config["decoder_layers"] - 1 if "decoder_layers" in config else None,
    )
    side = ((config.get("preprocessor") or {}).get("size") or {}).get("shortest_edge")
    classes, task = known_classes(config, num_classes(weights))
    recipe = run_recipe(model, classes, task, {"short_side": side} if side else None)
    return Converted(recipe, weights, left_over)


def _check_variant(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Raises: CheckpointError for what converted parts would compute otherwise."""
    trunk = config.get("backbone_config") or {}
    kind = trunk.get("model_type", "swin")
    if kind != "swin":
        raise CheckpointError(f"This Mask2Former has a backbone of type '{kind}', but only Swin can be converted.")
    expected = {
        "config.json": (config, {"pre_norm": False, "activation_function": "relu", "common_stride": 4}),
        "its backbone_config": (
            trunk,
            {"use_absolute_embeddings": False, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "patch_size": 4},
        ),
    }
    for where, (given, values) in expected.items():
        for key, value in values.items():
            if given.get(key, value) != value:
                raise CheckpointError(
                    f"This Mask2Former has {key} {given[key]} in {where}, but only {value} can be converted."
                )
    if any(name.startswith("model.transformer_module.input_projections.") for name in tensors):
        raise CheckpointError(
            "This Mask2Former projects levels once more before its decoder (feature_size is not hidden_dim, or "
            "enforce_input_projection), which cannot be converted."
        )
    check_mean(config, "Mask2Former", "Swin here expects")
