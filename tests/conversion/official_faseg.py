"""Writes a FASeg of queryseg under the names of its authors' files, module by module.

Names of the head: those of the golden numbers (`tests/parity/faseg`); of the trunks: detectron2's and Swin's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .official_mask2former import State, put


def head(model: Any) -> State:
    """Pixel decoder, queries and decoder."""
    pixels, queries = model.pixel_decoder, model.queries
    state = {**pixel_decoder(pixels), **decoder(model.decoder, pixels)}
    for level in range(4):
        put(state, f"sem_seg_head.pixel_decoder.pos_linear.{level}", pixels.encodings[level])
    place = "sem_seg_head.predictor"
    state[f"{place}.query_feat.weight"] = queries.content
    state[f"{place}.query_embed.weight"] = queries.position
    put(state, f"{place}.adapt_pos2d.0", queries.adapt.layers[0])
    put(state, f"{place}.adapt_pos2d.2", queries.adapt.layers[1])
    state["criterion.empty_weight"] = torch.ones(model.decoder.heads.class_embed.out_features)
    return state


def pixel_decoder(pixels: Any) -> State:
    """Mask2Former's own, of any number of levels."""
    state: State = {}
    place = "sem_seg_head.pixel_decoder"
    for level, entrance in enumerate(pixels.inputs):
        put(state, f"{place}.input_proj.{level}", entrance)
    state[f"{place}.transformer.level_embed"] = pixels.encoder_level_embed
    for index, layer in enumerate(pixels.layers):
        name = f"{place}.transformer.encoder.layers.{index}"
        put(state, f"{name}.self_attn.sampling_offsets", layer.attention.offsets)
        put(state, f"{name}.self_attn.attention_weights", layer.attention.weights)
        put(state, f"{name}.self_attn.value_proj", layer.attention.value)
        put(state, f"{name}.self_attn.output_proj", layer.attention.out)
        put(state, f"{name}.norm1", layer.attention_norm)
        put(state, f"{name}.linear1", layer.expand)
        put(state, f"{name}.linear2", layer.reduce)
        put(state, f"{name}.norm2", layer.feed_forward_norm)
    for name, block in (("adapter_1", pixels.lateral), ("layer_1", pixels.smooth)):
        put(state, f"{place}.{name}", block[0])
        put(state, f"{place}.{name}.norm", block[1])
    put(state, f"{place}.mask_features", pixels.mask_projection)
    return state


def decoder(decoder: Any, pixels: Any) -> State:
    """Mask2Former's own, with the level embedding, which is the pixel decoder's here."""
    state: State = {}
    place = "sem_seg_head.predictor"
    state[f"{place}.level_embed.weight"] = pixels.decoder_level_embed
    for index, layer in enumerate(decoder.layers):
        cross, own, feed = (f"{place}.transformer_{part}_layers.{index}" for part in PARTS)
        put(state, f"{cross}.multihead_attn", layer.cross_attention)
        put(state, f"{cross}.norm", layer.cross_attention_norm)
        put(state, f"{own}.self_attn", layer.self_attention)
        put(state, f"{own}.norm", layer.self_attention_norm)
        put(state, f"{feed}.linear1", layer.expand)
        put(state, f"{feed}.linear2", layer.reduce)
        put(state, f"{feed}.norm", layer.feed_forward_norm)
    put(state, f"{place}.decoder_norm", decoder.heads.norm)
    put(state, f"{place}.class_embed", decoder.heads.class_embed)
    for index, layer in enumerate(decoder.heads.mask_embed.layers):
        put(state, f"{place}.mask_embed.layers.{index}", layer)
    return state


PARTS = ("cross_attention", "self_attention", "ffn")


def resnet(model: Any) -> State:
    """Frozen batch norms: without counters."""
    net = model.backbone.net
    state: State = {}
    put(state, "backbone.stem.conv1", net.conv1)
    put(state, "backbone.stem.conv1.norm", net.bn1)
    for stage in range(1, 5):
        for index, block in enumerate(getattr(net, f"layer{stage}")):
            name = f"backbone.res{stage + 1}.{index}"
            for number in range(1, 4):
                put(state, f"{name}.conv{number}", getattr(block, f"conv{number}"))
                put(state, f"{name}.conv{number}.norm", getattr(block, f"bn{number}"))
            if block.downsample is not None:
                put(state, f"{name}.shortcut", block.downsample[0])
                put(state, f"{name}.shortcut.norm", block.downsample[1])
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def swin(model: Any) -> State:
    net = model.backbone.net
    state: State = {}
    put(state, "backbone.patch_embed", net.patch_embed)
    for stage in range(4):
        layers = getattr(net, f"layers_{stage}")
        for index, block in enumerate(layers.blocks):
            put(state, f"backbone.layers.{stage}.blocks.{index}", block)
            state[f"backbone.layers.{stage}.blocks.{index}.attn.relative_position_index"] = torch.zeros(4, 4)
        if stage > 0:  # a stage of timm begins with what ends the stage before in the authors' code
            put(state, f"backbone.layers.{stage - 1}.downsample", layers.downsample)
        put(state, f"backbone.norm{stage}", model.backbone.norms[3 - stage])
    return state


def official(model: Any, trunk: str) -> dict[str, Tensor]:
    """The whole file's tensors. trunk: "resnet" or "swin" """
    return {**head(model), **(swin(model) if trunk == "swin" else resnet(model))}
