"""tqdm as its authors train it (mmsegmentation), on CLIP and on EVA02-CLIP.

Shape legend: K classes, m vectors of the prompt, T width of a token, N positions of a text, J width of the image–text
space, W width of the trunk, C positions of an image, D width of queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, known_classes, rename, required, run_recipe
from queryseg.conversion.mask2former_mmdetection import HEAD
from queryseg.conversion.mask2former_model import count, mask2former_model, num_classes
from queryseg.data.class_table import class_table
from queryseg.errors import CheckpointError
from queryseg.text import TextTower, TowerSettings, load_tower

# ───────────────────────────── names ─────────────────────────────

_EXCHANGE = r"decode_head\.pixel_decoder\.encoder\.layers\.(\d+)\."
_OUR_EXCHANGE = r"pixel_decoder.layers.\1."
_DEFORMABLE = {
    "sampling_offsets": "offsets", "attention_weights": "weights", "value_proj": "value", "output_proj": "out",
}  # fmt: skip
_LAYER = r"decode_head\.transformer_decoder\.layers\.(\d+)\."
_OUR_LAYER = r"decoder.layers.\1."
_HEAD: Rules = (
    *((_EXCHANGE + rf"attentions\.0\.{a}\.(.+)", _OUR_EXCHANGE + rf"attention.{b}.\2") for a, b in _DEFORMABLE.items()),
    (_EXCHANGE + r"attentions\.1\.attn\.(.+)", _OUR_EXCHANGE + r"text_attention.\2"),
    (_EXCHANGE + r"norms\.0\.(.+)", _OUR_EXCHANGE + r"attention_norm.\2"),
    (_EXCHANGE + r"norms\.1\.(.+)", _OUR_EXCHANGE + r"text_attention_norm.\2"),
    (_EXCHANGE + r"norms\.2\.(.+)", _OUR_EXCHANGE + r"feed_forward_norm.\2"),
    (_EXCHANGE + r"ffns\.0\.layers\.0\.0\.(.+)", _OUR_EXCHANGE + r"expand.\2"),
    (_EXCHANGE + r"ffns\.0\.layers\.1\.(.+)", _OUR_EXCHANGE + r"reduce.\2"),
    (r"decode_head\.pixel_decoder\.encoder\.post_norm\.(.+)", r"pixel_decoder.final_norm.\1"),
    (r"decode_head\.pixel_decoder\.text_proj\.(.+)", r"pixel_decoder.text_projection.\1"),
    (r"decode_head\.pixel_decoder\.text_pos_embed\.weight", "pixel_decoder.text_position"),
    (_LAYER + r"attentions\.0\.attn\.(.+)", _OUR_LAYER + r"cross_attention.\2"),
    (_LAYER + r"attentions\.1\.attn\.(.+)", _OUR_LAYER + r"self_attention.\2"),
    (_LAYER + r"ffns\.0\.layers\.0\.0\.(.+)", _OUR_LAYER + r"expand.\2"),
    (_LAYER + r"ffns\.0\.layers\.1\.(.+)", _OUR_LAYER + r"reduce.\2"),
    (r"decode_head\.text_proj\.0\.(.+)", r"queries.project.layers.0.\1"),
    (r"decode_head\.text_proj\.2\.(.+)", r"queries.project.layers.1.\1"),
    *HEAD,
)
_CONTEXT = r"context_decoder\.decoder\.(\d+)\."
_OUR_CONTEXT = r"queries.conditioner.layers.\1."
_TEXTS: Rules = (
    (r"gamma", "queries.gamma"),
    (r"context_decoder\.memory_proj\.(.+)", r"queries.conditioner.memory.\1"),
    (r"context_decoder\.text_proj\.(.+)", r"queries.conditioner.texts.\1"),
    (r"context_decoder\.out_proj\.(.+)", r"queries.conditioner.out.\1"),
    *(
        (_CONTEXT + rf"(self|cross)_attn\.{p}_proj\.weight", _OUR_CONTEXT + rf"\2_attention.in_proj_weight[{i}]")
        for i, p in enumerate("qkv")
    ),
    (_CONTEXT + r"(self|cross)_attn\.proj\.(.+)", _OUR_CONTEXT + r"\2_attention.out_proj.\3"),
    (_CONTEXT + r"norm1\.(.+)", _OUR_CONTEXT + r"self_norm.\2"),
    (_CONTEXT + r"norm2\.(.+)", _OUR_CONTEXT + r"cross_norm.\2"),
    (_CONTEXT + r"norm3\.(.+)", _OUR_CONTEXT + r"feed_forward_norm.\2"),
    (_CONTEXT + r"mlp\.0\.(.+)", _OUR_CONTEXT + r"expand.\2"),
    (_CONTEXT + r"mlp\.3\.(.+)", _OUR_CONTEXT + r"reduce.\2"),
)
_PYRAMID: Rules = (
    (r"backbone\.fpn1\.(.+)", r"backbone.pyramid.up4.\1"),
    (r"backbone\.fpn2\.0\.(.+)", r"backbone.pyramid.up2.\1"),
)
_BLOCK, _OUR_BLOCK = r"backbone\.(?:transformer\.resblocks|blocks)\.(\d+)\.", r"backbone.blocks.\1."
_CLIP: Rules = (
    (r"backbone\.conv1\.weight", "backbone.stem.patch_embed.proj.weight"),
    (r"backbone\.class_embedding", "backbone.stem.cls_token"),
    (r"backbone\.positional_embedding", "backbone.stem.pos_embed"),
    (r"backbone\.ln_pre\.(.+)", r"backbone.stem.norm_pre.\1"),
    (r"backbone\.ln_post\.(.+)", r"backbone.norm.\1"),
    (r"backbone\.proj", "backbone.project.weight"),
    (_BLOCK + r"ln_([12])\.(.+)", _OUR_BLOCK + r"norm\2.\3"),
    (_BLOCK + r"attn\.in_proj_(.+)", _OUR_BLOCK + r"attn.qkv.\2"),
    (_BLOCK + r"attn\.out_proj\.(.+)", _OUR_BLOCK + r"attn.proj.\2"),
    (_BLOCK + r"mlp\.c_fc\.(.+)", _OUR_BLOCK + r"mlp.fc1.\2"),
    (_BLOCK + r"mlp\.c_proj\.(.+)", _OUR_BLOCK + r"mlp.fc2.\2"),
)
_EVA02: Rules = (
    (r"backbone\.((?:cls_token|pos_embed|patch_embed\.).*)", r"backbone.stem.\1"),
    (r"backbone\.norm\.(.+)", r"backbone.norm.\1"),
    (r"backbone\.head\.(.+)", r"backbone.project.\1"),
    (_BLOCK + r"attn\.([qv])_bias", _OUR_BLOCK + r"attn.\2_proj.bias"),
    (_BLOCK + r"attn\.inner_attn_ln\.(.+)", _OUR_BLOCK + r"attn.norm.\2"),
    (_BLOCK + r"mlp\.ffn_ln\.(.+)", _OUR_BLOCK + r"mlp.norm.\2"),
    (_BLOCK + r"mlp\.w1\.(.+)", _OUR_BLOCK + r"mlp.fc1_g.\2"),
    (_BLOCK + r"mlp\.w2\.(.+)", _OUR_BLOCK + r"mlp.fc1_x.\2"),
    (_BLOCK + r"mlp\.w3\.(.+)", _OUR_BLOCK + r"mlp.fc2.\2"),
    (_BLOCK + r"((?:norm[12]|attn\.(?:[qkv]_proj|proj))\.(?:weight|bias))", _OUR_BLOCK + r"\2"),
)
_TOWER = "text_encoder."
_PUBLISHED = {(768, 12): "vit_base_patch16_clip_quickgelu_224", (1024, 24): "eva02_large_patch14_clip_336"}
"""(W, blocks) → timm model."""
_PROTOCOL = {"fit": [2048, 1024], "window": 512, "stride": 341}

# ───────────────────────────── conversion ─────────────────────────────


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PlainViT or RotaryViT, TextDeformable, TextualQueries and CrossAttention.

    The text encoder reads the class names behind the prompt once; what it says of them is what the run holds, with the
    prompt beside it. Left over are the copy of the initial backbone (`reg_E0`), which only training compares with, and
    the encoder itself.

    config: as in `PublishedCheckpoint`; only names of classes are read.

    Raises: CheckpointError for missing tensors, and for classes whose names nothing tells; InputError without open_clip
    """
    clip = "backbone.class_embedding" in tensors
    weights, left_over = rename(tensors, (*_HEAD, *_TEXTS, *_PYRAMID, *(_CLIP if clip else _EVA02)))
    if clip:
        _as_timm_has_clip(weights)
    prompt = required(tensors, "contexts")[0]  # (m, T)
    tower = _tower(tensors, quick_gelu=clip)
    classes, task = known_classes(config, num_classes(weights))
    names = class_table(classes).names
    if names[0] == "LABEL_0":
        raise CheckpointError(
            f"The queries of this tqdm are the names of {len(names)} classes, which it does not hold; put them into a "
            "config.json beside it, under id2label."
        )
    with torch.no_grad():
        weights["queries.embeddings"] = tower.encode(tower.tokenize(names, len(prompt)), prompt)
    queries = {
        "class_path": "queryseg.queries.TextualQueries",
        "init_args": {
            "tower": _tower_settings(tensors, clip),
            "tower_weights": False,
            "prompt_length": len(prompt),
            "context_width": len(required(weights, "queries.conditioner.memory.1.bias")),
            "context_layers": count(weights, "queries.conditioner.layers."),
            "context_heads": max(1, len(required(weights, "queries.conditioner.memory.1.bias")) // 64),
        },
    }
    model = mask2former_model(weights, _backbone(weights, clip), queries=queries)
    model["pixel_decoder"]["class_path"] = "queryseg.pixel_decoders.TextDeformable"
    used = torch.frombuffer(bytearray.fromhex(tower.sha256), dtype=torch.uint8)
    aside = {"queries.prompt": prompt, "queries.tower_sha256": used}
    return Converted(run_recipe(model, classes, task, _PROTOCOL), weights, left_over, aside=aside)


def _as_timm_has_clip(weights: dict[str, Tensor]) -> None:
    """Axes as timm's, and the class token twice as large, because the authors' code adds it twice."""
    weights["backbone.stem.cls_token"] = 2 * required(weights, "backbone.stem.cls_token")[None, None]
    weights["backbone.stem.pos_embed"] = required(weights, "backbone.stem.pos_embed")[None]
    projection = required(weights, "backbone.project.weight")  # (W, J), it stands on the right
    weights["backbone.project.weight"] = projection.T.contiguous()
    weights["backbone.project.bias"] = projection.new_zeros(projection.shape[1])


def _backbone(weights: Mapping[str, Tensor], clip: bool) -> dict[str, Any]:
    """`model.backbone` of a recipe."""
    kernel = required(weights, "backbone.stem.patch_embed.proj.weight")
    width, patch = kernel.shape[0], kernel.shape[-1]
    depth = count(weights, "backbone.blocks.")
    joint = len(required(weights, "backbone.project.bias"))
    side = patch * math.isqrt(required(weights, "backbone.stem.pos_embed").shape[1] - 1)
    options: dict[str, Any] = {}
    if (width, depth) not in _PUBLISHED:
        options = {"embed_dim": width, "depth": depth, "num_heads": max(1, width // 64), "num_classes": joint}
        if not clip:
            options["mlp_ratio"] = len(required(weights, "backbone.blocks.0.mlp.norm.bias")) / width
    arguments: dict[str, Any] = {
        "name": _PUBLISHED.get((width, depth), _PUBLISHED[(768, 12) if clip else (1024, 24)]),
        "patch_size": patch,
        "image_size": side,
        "pyramid": "learned",
        "joint": True,
        **({} if clip else {"remainder": "cut"}),
        **({"options": options} if options else {}),
    }
    return {"class_path": f"queryseg.backbones.{'PlainViT' if clip else 'RotaryViT'}", "init_args": arguments}


def _tower_settings(tensors: Mapping[str, Tensor], quick_gelu: bool) -> dict[str, Any]:
    """As open_clip configures it. Its position table ends where the longest name does (N: 10 or 13), so the encoder of
    a checkpoint is none of the published ones; `--text-tower CHECKPOINT` gives it where other names are asked for."""
    positions = required(tensors, f"{_TOWER}positional_embedding")
    vocabulary, width = required(tensors, f"{_TOWER}token_embedding.weight").shape
    return {
        "embed_dim": required(tensors, f"{_TOWER}text_projection").shape[1],
        "quick_gelu": quick_gelu,
        "text_cfg": {
            "context_length": len(positions),
            "vocab_size": vocabulary,
            "width": width,
            "heads": max(1, width // 64),
            "layers": count(tensors, f"{_TOWER}transformer.resblocks."),
        },
    }


def _tower(tensors: Mapping[str, Tensor], quick_gelu: bool) -> TextTower:
    """Raises: InputError without open_clip"""
    tower = load_tower(TowerSettings(_tower_settings(tensors, quick_gelu), False))
    own = {name.removeprefix(_TOWER): tensor for name, tensor in tensors.items() if name.startswith(_TOWER)}
    tower.transformer = tower.transformer.to(own["text_projection"].dtype)
    tower.transformer.load_state_dict(own)
    return tower
