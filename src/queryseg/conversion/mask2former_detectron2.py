"""Mask2Former as its authors train it, on detectron2: the official .pkl files, semantic and panoptic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, known_classes, rename, run_recipe
from queryseg.conversion.mask2former_model import mask2former_model, num_classes, resnet_backbone, swin_backbone

PREDICTOR = r"sem_seg_head\.predictor\."
_LAYER = PREDICTOR + r"transformer_{}_layers\.(\d+)\."
_OUR_LAYER = r"decoder.layers.\1."
PIXELS = r"sem_seg_head\.pixel_decoder\."
_EXCHANGE = PIXELS + r"transformer\.encoder\.layers\.(\d+)\."
_OUR_EXCHANGE = r"pixel_decoder.layers.\1."
HEAD: Rules = (
    (PREDICTOR + r"query_feat\.weight", "queries.content"),
    (PREDICTOR + r"query_embed\.weight", "queries.position"),
    (PREDICTOR + r"level_embed\.weight", "pixel_decoder.decoder_level_embed"),
    (_LAYER.format("cross_attention") + r"multihead_attn\.(.+)", _OUR_LAYER + r"cross_attention.\2"),
    (_LAYER.format("cross_attention") + r"norm\.(.+)", _OUR_LAYER + r"cross_attention_norm.\2"),
    (_LAYER.format("self_attention") + r"self_attn\.(.+)", _OUR_LAYER + r"self_attention.\2"),
    (_LAYER.format("self_attention") + r"norm\.(.+)", _OUR_LAYER + r"self_attention_norm.\2"),
    (_LAYER.format("ffn") + r"linear1\.(.+)", _OUR_LAYER + r"expand.\2"),
    (_LAYER.format("ffn") + r"linear2\.(.+)", _OUR_LAYER + r"reduce.\2"),
    (_LAYER.format("ffn") + r"norm\.(.+)", _OUR_LAYER + r"feed_forward_norm.\2"),
    (PREDICTOR + r"decoder_norm\.(.+)", r"decoder.heads.norm.\1"),
    (PREDICTOR + r"((?:class_embed|mask_embed\.layers\.\d)\..+)", r"decoder.heads.\1"),
    (PIXELS + r"input_proj\.(.+)", r"pixel_decoder.inputs.\1"),
    (PIXELS + r"transformer\.level_embed", "pixel_decoder.encoder_level_embed"),
    (_EXCHANGE + r"self_attn\.sampling_offsets\.(.+)", _OUR_EXCHANGE + r"attention.offsets.\2"),
    (_EXCHANGE + r"self_attn\.attention_weights\.(.+)", _OUR_EXCHANGE + r"attention.weights.\2"),
    (_EXCHANGE + r"self_attn\.value_proj\.(.+)", _OUR_EXCHANGE + r"attention.value.\2"),
    (_EXCHANGE + r"self_attn\.output_proj\.(.+)", _OUR_EXCHANGE + r"attention.out.\2"),
    (_EXCHANGE + r"norm1\.(.+)", _OUR_EXCHANGE + r"attention_norm.\2"),
    (_EXCHANGE + r"linear1\.(.+)", _OUR_EXCHANGE + r"expand.\2"),
    (_EXCHANGE + r"linear2\.(.+)", _OUR_EXCHANGE + r"reduce.\2"),
    (_EXCHANGE + r"norm2\.(.+)", _OUR_EXCHANGE + r"feed_forward_norm.\2"),
    (PIXELS + r"adapter_1\.norm\.(.+)", r"pixel_decoder.lateral.1.\1"),
    (PIXELS + r"adapter_1\.weight", "pixel_decoder.lateral.0.weight"),
    (PIXELS + r"layer_1\.norm\.(.+)", r"pixel_decoder.smooth.1.\1"),
    (PIXELS + r"layer_1\.weight", "pixel_decoder.smooth.0.weight"),
    (PIXELS + r"mask_features\.(.+)", r"pixel_decoder.mask_projection.\1"),
)
_RESNET: Rules = (
    (r"backbone\.stem\.conv1\.weight", "backbone.net.conv1.weight"),
    (r"backbone\.stem\.conv1\.norm\.(.+)", r"backbone.net.bn1.\1"),
    *(
        rule
        for stage in range(1, 5)
        for theirs, ours in [(rf"backbone\.res{stage + 1}\.(\d+)\.", rf"backbone.net.layer{stage}.\1.")]
        for rule in (
            (theirs + r"conv(\d)\.weight", ours + r"conv\2.weight"),
            (theirs + r"conv(\d)\.norm\.(.+)", ours + r"bn\2.\3"),
            (theirs + r"shortcut\.weight", ours + "downsample.0.weight"),
            (theirs + r"shortcut\.norm\.(.+)", ours + r"downsample.1.\2"),
        )
    ),
)
_SWIN: Rules = (
    (r"backbone\.layers\.\d+\.blocks\.\d+\.attn\.relative_position_index", ""),
    (r"backbone\.(patch_embed\..+)", r"backbone.net.\1"),
    (r"backbone\.layers\.(\d+)\.(blocks\..+)", r"backbone.net.layers_\1.\2"),
    *(  # theirs halves a map behind a stage, timm's before the next one
        (rf"backbone\.layers\.{i}\.(downsample\..+)", rf"backbone.net.layers_{i + 1}.\1") for i in range(3)
    ),
    *((rf"backbone\.norm{i}\.(.+)", rf"backbone.norms.{3 - i}.\1") for i in range(4)),
)


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as in the present version of the authors' code."""
    return {name.replace(".static_query.", ".query_feat."): tensor for name, tensor in tensors.items()}


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PyramidBackbone, Deformable, LearnableQueries and CrossAttention.

    config: as in `PublishedCheckpoint`; only names of classes are read.

    Raises: CheckpointError for missing tensors
    """
    weights, backbone, left_over = renamed(tensors, HEAD)
    classes, task = known_classes(config, num_classes(weights))
    return Converted(run_recipe(mask2former_model(weights, backbone), classes, task), weights, left_over)


def renamed(tensors: Mapping[str, Tensor], head: Rules) -> tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]:
    """Weights under our names, `model.backbone` of a recipe, and what is left over. head: rules for all but the trunk.

    Raises: CheckpointError for missing tensors
    """
    swin = "backbone.patch_embed.proj.weight" in tensors
    weights, left_over = rename(tensors, (*head, *(_SWIN if swin else _RESNET)))
    return weights, swin_backbone(weights) if swin else resnet_backbone(weights), left_over
