"""Mask2Former of mmdetection (panoptic) and mmsegmentation (semantic), ResNet and Swin.

Shape legend: C channels of a map, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, known_classes, rename, run_recipe
from queryseg.conversion.mask2former_model import mask2former_model, num_classes, resnet_backbone, swin_backbone

_LAYER = r"decode_head\.transformer_decoder\.layers\.(\d+)\."
_OUR_LAYER = r"decoder.layers.\1."
_PIXELS = r"decode_head\.pixel_decoder\."
_EXCHANGE = _PIXELS + r"encoder\.layers\.(\d+)\."
_OUR_EXCHANGE = r"pixel_decoder.layers.\1."
HEAD: Rules = (
    (r"decode_head\.query_feat\.weight", "queries.content"),
    (r"decode_head\.query_embed\.weight", "queries.position"),
    (r"decode_head\.level_embed\.weight", "pixel_decoder.decoder_level_embed"),
    (_LAYER + r"(cross|self)_attn\.attn\.(.+)", _OUR_LAYER + r"\2_attention.\3"),
    (_LAYER + r"norms\.0\.(.+)", _OUR_LAYER + r"cross_attention_norm.\2"),
    (_LAYER + r"norms\.1\.(.+)", _OUR_LAYER + r"self_attention_norm.\2"),
    (_LAYER + r"norms\.2\.(.+)", _OUR_LAYER + r"feed_forward_norm.\2"),
    (_LAYER + r"ffn\.layers\.0\.0\.(.+)", _OUR_LAYER + r"expand.\2"),
    (_LAYER + r"ffn\.layers\.1\.(.+)", _OUR_LAYER + r"reduce.\2"),
    (r"decode_head\.transformer_decoder\.post_norm\.(.+)", r"decoder.heads.norm.\1"),
    (r"decode_head\.cls_embed\.(.+)", r"decoder.heads.class_embed.\1"),
    *((rf"decode_head\.mask_embed\.{2 * i}\.(.+)", rf"decoder.heads.mask_embed.layers.{i}.\1") for i in range(3)),
    (_PIXELS + r"input_convs\.(\d)\.conv\.(.+)", r"pixel_decoder.inputs.\1.0.\2"),
    (_PIXELS + r"input_convs\.(\d)\.gn\.(.+)", r"pixel_decoder.inputs.\1.1.\2"),
    (_PIXELS + r"level_encoding\.weight", "pixel_decoder.encoder_level_embed"),
    (_EXCHANGE + r"self_attn\.sampling_offsets\.(.+)", _OUR_EXCHANGE + r"attention.offsets.\2"),
    (_EXCHANGE + r"self_attn\.attention_weights\.(.+)", _OUR_EXCHANGE + r"attention.weights.\2"),
    (_EXCHANGE + r"self_attn\.value_proj\.(.+)", _OUR_EXCHANGE + r"attention.value.\2"),
    (_EXCHANGE + r"self_attn\.output_proj\.(.+)", _OUR_EXCHANGE + r"attention.out.\2"),
    (_EXCHANGE + r"norms\.0\.(.+)", _OUR_EXCHANGE + r"attention_norm.\2"),
    (_EXCHANGE + r"norms\.1\.(.+)", _OUR_EXCHANGE + r"feed_forward_norm.\2"),
    (_EXCHANGE + r"ffn\.layers\.0\.0\.(.+)", _OUR_EXCHANGE + r"expand.\2"),
    (_EXCHANGE + r"ffn\.layers\.1\.(.+)", _OUR_EXCHANGE + r"reduce.\2"),
    (_PIXELS + r"lateral_convs\.0\.conv\.(.+)", r"pixel_decoder.lateral.0.\1"),
    (_PIXELS + r"lateral_convs\.0\.gn\.(.+)", r"pixel_decoder.lateral.1.\1"),
    (_PIXELS + r"output_convs\.0\.conv\.(.+)", r"pixel_decoder.smooth.0.\1"),
    (_PIXELS + r"output_convs\.0\.gn\.(.+)", r"pixel_decoder.smooth.1.\1"),
    (_PIXELS + r"mask_feature\.(.+)", r"pixel_decoder.mask_projection.\1"),
)
_RESNET: Rules = ((r"backbone\.((?:conv1|bn1|layer\d)\..+)", r"backbone.net.\1"),)
_BLOCK = r"backbone\.stages\.(\d+)\.blocks\.(\d+)\."
_OUR_BLOCK = r"backbone.net.layers_\1.blocks.\2."
_SWIN: Rules = (
    (_BLOCK + r"attn\.w_msa\.relative_position_index", ""),
    (r"backbone\.patch_embed\.projection\.(.+)", r"backbone.net.patch_embed.proj.\1"),
    (r"backbone\.patch_embed\.norm\.(.+)", r"backbone.net.patch_embed.norm.\1"),
    (_BLOCK + r"(norm\d\..+)", _OUR_BLOCK + r"\3"),
    (_BLOCK + r"attn\.w_msa\.(.+)", _OUR_BLOCK + r"attn.\3"),
    (_BLOCK + r"ffn\.layers\.0\.0\.(.+)", _OUR_BLOCK + r"mlp.fc1.\3"),
    (_BLOCK + r"ffn\.layers\.1\.(.+)", _OUR_BLOCK + r"mlp.fc2.\3"),
    *(  # theirs halves a map behind a stage, timm's before the next one
        (rf"backbone\.stages\.{i}\.(downsample\..+)", rf"backbone.net.layers_{i + 1}.\1") for i in range(3)
    ),
    *((rf"backbone\.norm{i}\.(.+)", rf"backbone.norms.{3 - i}.\1") for i in range(4)),
)


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as mmsegmentation has them; mmdetection calls the head panoptic_head."""
    return {_head(name): tensor for name, tensor in tensors.items()}


def _head(name: str) -> str:
    return f"decode_head.{name.removeprefix('panoptic_head.')}" if name.startswith("panoptic_head.") else name


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PyramidBackbone, Deformable, LearnableQueries and CrossAttention.

    config: as in `PublishedCheckpoint`; only names of classes are read.

    Raises: CheckpointError for missing tensors
    """
    swin = "backbone.patch_embed.projection.weight" in tensors
    weights, left_over = rename(tensors, (*HEAD, *(_SWIN if swin else _RESNET)))
    for name in [name for name in weights if ".downsample." in name and swin]:
        weights[name] = _as_swin_merges(weights[name])
    backbone = swin_backbone(weights) if swin else resnet_backbone(weights)
    classes, task = known_classes(config, num_classes(weights))
    return Converted(run_recipe(mask2former_model(weights, backbone), classes, task), weights, left_over)


def _as_swin_merges(x: Tensor) -> Tensor:
    """(…, C·4) with the four neighbours of a patch innermost, row by row, as nn.Unfold gives them → (…, 4·C) with them
    outermost, column by column, as Swin merges them."""
    return x.reshape(*x.shape[:-1], -1, 2, 2).movedim((-1, -2), (-3, -2)).flatten(-3)
