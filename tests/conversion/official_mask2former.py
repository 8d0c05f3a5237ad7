"""Writes a Mask2Former of Hugging Face under the names of other code bases, by a mapping of its own.

From Hugging Face's module tree to theirs, tensor by tensor; the converters go from theirs to ours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[str, Tensor]


def put(state: State, name: str, module: Any) -> None:
    """A module's tensors under another prefix."""
    state.update({f"{name}.{key}": value for key, value in module.state_dict().items()})


def fused(attention: Any) -> State:
    """Three projections as nn.MultiheadAttention has them."""
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    return {
        "in_proj_weight": torch.cat([part.weight for part in parts]),
        "in_proj_bias": torch.cat([part.bias for part in parts]),
        "out_proj.weight": attention.out_proj.weight,
        "out_proj.bias": attention.out_proj.bias,
    }


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": value for name, value in state.items()}


# ───────────────────────────── heads ─────────────────────────────


def detectron2_head(model: Any) -> State:
    pixels, transformer = model.model.pixel_level_module.decoder, model.model.transformer_module
    state: State = {}
    head = "sem_seg_head.pixel_decoder"
    for level in range(3):
        put(state, f"{head}.input_proj.{level}", pixels.input_projections[level])
    state[f"{head}.transformer.level_embed"] = pixels.level_embed
    for index, layer in enumerate(pixels.encoder.layers):
        name = f"{head}.transformer.encoder.layers.{index}"
        put(state, f"{name}.self_attn", layer.self_attn)
        put(state, f"{name}.norm1", layer.self_attn_layer_norm)
        put(state, f"{name}.linear1", layer.fc1)
        put(state, f"{name}.linear2", layer.fc2)
        put(state, f"{name}.norm2", layer.final_layer_norm)
    for name, block in (("adapter_1", pixels.adapter_1), ("layer_1", pixels.layer_1)):
        put(state, f"{head}.{name}", block[0])
        put(state, f"{head}.{name}.norm", block[1])
    put(state, f"{head}.mask_features", pixels.mask_projection)

    head = "sem_seg_head.predictor"
    for index, layer in enumerate(transformer.decoder.layers):
        cross = f"{head}.transformer_cross_attention_layers.{index}"
        put(state, f"{cross}.multihead_attn", layer.cross_attn)
        put(state, f"{cross}.norm", layer.cross_attn_layer_norm)
        own = f"{head}.transformer_self_attention_layers.{index}"
        state.update(prefixed(f"{own}.self_attn", fused(layer.self_attn)))
        put(state, f"{own}.norm", layer.self_attn_layer_norm)
        feed = f"{head}.transformer_ffn_layers.{index}"
        put(state, f"{feed}.linear1", layer.fc1)
        put(state, f"{feed}.linear2", layer.fc2)
        put(state, f"{feed}.norm", layer.final_layer_norm)
    put(state, f"{head}.decoder_norm", transformer.decoder.layernorm)
    put(state, f"{head}.query_feat", transformer.queries_features)
    put(state, f"{head}.query_embed", transformer.queries_embedder)
    put(state, f"{head}.level_embed", transformer.level_embed)
    put(state, f"{head}.class_embed", model.class_predictor)
    for index in range(3):
        put(
            state,
            f"{head}.mask_embed.layers.{index}",
            transformer.decoder.mask_predictor.mask_embedder.get_submodule(f"{index}.0"),
        )
    state["criterion.empty_weight"] = torch.ones(model.class_predictor.out_features)
    return state


def mmdetection_head(model: Any, head: str = "decode_head") -> State:
    pixels, transformer = model.model.pixel_level_module.decoder, model.model.transformer_module
    state: State = {}
    name = f"{head}.pixel_decoder"
    for level in range(3):
        put(state, f"{name}.input_convs.{level}.conv", pixels.input_projections[level][0])
        put(state, f"{name}.input_convs.{level}.gn", pixels.input_projections[level][1])
    state[f"{name}.level_encoding.weight"] = pixels.level_embed
    for index, layer in enumerate(pixels.encoder.layers):
        place = f"{name}.encoder.layers.{index}"
        put(state, f"{place}.self_attn", layer.self_attn)
        put(state, f"{place}.norms.0", layer.self_attn_layer_norm)
        put(state, f"{place}.ffn.layers.0.0", layer.fc1)
        put(state, f"{place}.ffn.layers.1", layer.fc2)
        put(state, f"{place}.norms.1", layer.final_layer_norm)
    for place, block in (("lateral_convs.0", pixels.adapter_1), ("output_convs.0", pixels.layer_1)):
        put(state, f"{name}.{place}.conv", block[0])
        put(state, f"{name}.{place}.gn", block[1])
    put(state, f"{name}.mask_feature", pixels.mask_projection)
    for index, layer in enumerate(transformer.decoder.layers):
        place = f"{head}.transformer_decoder.layers.{index}"
        put(state, f"{place}.cross_attn.attn", layer.cross_attn)
        put(state, f"{place}.norms.0", layer.cross_attn_layer_norm)
        state.update(prefixed(f"{place}.self_attn.attn", fused(layer.self_attn)))
        put(state, f"{place}.norms.1", layer.self_attn_layer_norm)
        put(state, f"{place}.ffn.layers.0.0", layer.fc1)
        put(state, f"{place}.ffn.layers.1", layer.fc2)
        put(state, f"{place}.norms.2", layer.final_layer_norm)
    put(state, f"{head}.transformer_decoder.post_norm", transformer.decoder.layernorm)
    put(state, f"{head}.query_feat", transformer.queries_features)
    put(state, f"{head}.query_embed", transformer.queries_embedder)
    put(state, f"{head}.level_embed", transformer.level_embed)
    put(state, f"{head}.cls_embed", model.class_predictor)
    for index in range(3):
        put(
            state,
            f"{head}.mask_embed.{2 * index}",
            transformer.decoder.mask_predictor.mask_embedder.get_submodule(f"{index}.0"),
        )
    return state


# ───────────────────────────── trunks ─────────────────────────────


def detectron2_resnet(model: Any) -> State:
    """Frozen batch norms: without counters."""
    net = model.model.pixel_level_module.encoder
    state: State = {}

    def convolution(name: str, block: Any) -> None:
        put(state, name, block.convolution)
        put(state, f"{name}.norm", block.normalization)

    convolution("backbone.stem.conv1", net.embedder.embedder)
    for stage, layers in enumerate(net.encoder.stages):
        for index, block in enumerate(layers.layers):
            name = f"backbone.res{stage + 2}.{index}"
            for number in range(3):
                convolution(f"{name}.conv{number + 1}", block.layer[number])
            if not isinstance(block.shortcut, nn.Identity):
                convolution(f"{name}.shortcut", block.shortcut)
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def mmdetection_resnet(model: Any) -> State:
    net = model.model.pixel_level_module.encoder
    state: State = {}
    put(state, "backbone.conv1", net.embedder.embedder.convolution)
    put(state, "backbone.bn1", net.embedder.embedder.normalization)
    for stage, layers in enumerate(net.encoder.stages):
        for index, block in enumerate(layers.layers):
            name = f"backbone.layer{stage + 1}.{index}"
            for number in range(3):
                put(state, f"{name}.conv{number + 1}", block.layer[number].convolution)
                put(state, f"{name}.bn{number + 1}", block.layer[number].normalization)
            if not isinstance(block.shortcut, nn.Identity):
                put(state, f"{name}.downsample.0", block.shortcut.convolution)
                put(state, f"{name}.downsample.1", block.shortcut.normalization)
    return state


def swin(model: Any, mmdetection: bool) -> State:
    encoder = model.model.pixel_level_module.encoder
    net = encoder.swin
    state: State = {}
    put(
        state,
        f"backbone.patch_embed.{'projection' if mmdetection else 'proj'}",
        net.embeddings.patch_embeddings.projection,
    )
    put(state, "backbone.patch_embed.norm", net.embeddings.norm)
    for stage, layers in enumerate(net.encoder.layers):
        for index, block in enumerate(layers.blocks):
            name = f"backbone.{'stages' if mmdetection else 'layers'}.{stage}.blocks.{index}"
            window = f"{name}.attn{'.w_msa' if mmdetection else ''}"
            attention = block.attention
            for kind in ("weight", "bias"):
                parts = [getattr(getattr(attention, f"{part}_proj"), kind) for part in "qkv"]
                state[f"{window}.qkv.{kind}"] = torch.cat(parts)
            put(state, f"{window}.proj", attention.o_proj)
            table = attention.relative_position_bias.relative_position_bias_table
            state[f"{window}.relative_position_bias_table"] = table
            state[f"{window}.relative_position_index"] = torch.zeros(16, 16)
            put(state, f"{name}.norm1", block.layernorm_before)
            put(state, f"{name}.norm2", block.layernorm_after)
            put(state, f"{name}.{'ffn.layers.0.0' if mmdetection else 'mlp.fc1'}", block.mlp.fc1)
            put(state, f"{name}.{'ffn.layers.1' if mmdetection else 'mlp.fc2'}", block.mlp.fc2)
        if stage < 3:
            name = f"backbone.{'stages' if mmdetection else 'layers'}.{stage}.downsample"
            order = unfold_order(layers.downsample.norm.weight.shape[0] // 4) if mmdetection else slice(None)
            state[f"{name}.reduction.weight"] = layers.downsample.reduction.weight[:, order]
            state[f"{name}.norm.weight"] = layers.downsample.norm.weight[order]
            state[f"{name}.norm.bias"] = layers.downsample.norm.bias[order]
        put(state, f"backbone.norm{stage}", encoder.hidden_states_norms[f"stage{stage + 1}"])
    return state


def unfold_order(channels: int) -> Tensor:
    """(4·C,) places in Swin's own merged vector of what nn.Unfold, which mmdetection merges with, puts there."""
    numbers = torch.arange(4.0 * channels).view(1, channels, 2, 2)
    merged = torch.cat([numbers[..., row, column] for column in (0, 1) for row in (0, 1)], 1)[0]  # Swin's order
    unfolded = F.unfold(numbers, 2)[0, :, 0]
    return (unfolded[:, None] == merged[None]).float().argmax(1)
