"""EoMT's published layouts become runs that give the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import read_model, write_model, write_recipe

transformers = pytest.importorskip("transformers")

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
PREPROCESSOR = {"do_split_image": True, "size": {"shortest_edge": 64, "longest_edge": None}}


def read(model: Any, folder: Path, **changes: Tensor | None) -> PublishedCheckpoint:
    """The checkpoint that Hugging Face writes, with some tensors changed or (None) left out."""
    model.save_pretrained(folder)
    saved = PublishedCheckpoint.read(folder)
    tensors = {**saved.tensors, **changes}
    return PublishedCheckpoint(saved.source, {n: t for n, t in tensors.items() if t is not None}, saved.config)


def assert_same_answers(checkpoint: PublishedCheckpoint, model: Any, folder: Path) -> None:
    """Through a run on disk; float32."""
    converted = convert_checkpoint(checkpoint)
    folder.mkdir()
    write_recipe(folder, converted.recipe)
    write_model(folder, converted.weights)
    run = read_model(folder)
    with torch.no_grad():
        expected, found = model.eval()(IMAGES), run.model(IMAGES).final
    for ours, theirs in (
        (found.mask_logits, expected.masks_queries_logits),
        (found.class_logits, expected.class_queries_logits),
    ):
        assert float(theirs.std()) > 0.1
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.std()))


@pytest.mark.parametrize("kind", ["dinov2", "swiglu", "dinov3"])
def test_a_run_gives_hugging_faces_answers(kind, hugging_face_eomt, tmp_path):
    model = hugging_face_eomt(kind)
    checkpoint = read(model, tmp_path / "theirs")
    assert_same_answers(checkpoint, model, tmp_path / "ours")
    assert set(convert_checkpoint(checkpoint).left_over) == {"attn_mask_probs", "criterion.empty_weight"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("dinov2", {"num_register_tokens": 2, "patch_size": 8, "num_upscale_blocks": 1}),
        ("dinov3", {"num_register_tokens": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 10.0}}),
    ],
)
def test_other_sizes_and_frequencies_are_kept(kind, options, hugging_face_eomt, tmp_path):
    model = hugging_face_eomt(kind, **options)
    assert_same_answers(read(model, tmp_path / "theirs"), model, tmp_path / "ours")


def test_the_first_layout_of_the_giant_model(hugging_face_eomt, tmp_path):
    """Both halves of its gated MLP in one tensor."""
    model = hugging_face_eomt("swiglu")
    changes: dict[str, Tensor | None] = {}
    for name, tensor in model.state_dict().items():
        if ".mlp.gate_proj." in name:
            up = name.replace("gate_proj", "up_proj")
            changes |= {name: None, up: None}
            changes[name.replace("gate_proj", "weights_in")] = torch.cat([tensor, model.state_dict()[up]])
        if ".mlp.down_proj." in name:
            changes |= {name: None, name.replace("down_proj", "weights_out"): tensor}
    assert_same_answers(read(model, tmp_path / "theirs", **changes), model, tmp_path / "ours")


def as_authors(model: Any) -> dict[str, Tensor]:
    """The same weights in the layout of EoMT's training code, whose trunk is timm's."""
    state = model.state_dict()
    trunk = "network.encoder.backbone."
    renamed = {
        trunk + "cls_token": state["embeddings.cls_token"],
        trunk + "reg_token": state["embeddings.register_tokens"],
        trunk + "pos_embed": state["embeddings.position_embeddings.weight"][None],
        "network.q.weight": state["query.weight"],
        "network.attn_mask_probs": state["attn_mask_probs"],
        "network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1),
        "criterion.empty_weight": state["criterion.empty_weight"],
    }
    for kind in ("weight", "bias"):
        renamed[f"{trunk}patch_embed.proj.{kind}"] = state[f"embeddings.patch_embeddings.projection.{kind}"]
        renamed[f"{trunk}norm.{kind}"] = state[f"layernorm.{kind}"]
        renamed[f"network.class_head.{kind}"] = state[f"class_predictor.{kind}"]
        for number, index in (("1", "0"), ("2", "2"), ("3", "4")):
            renamed[f"network.mask_head.{index}.{kind}"] = state[f"mask_head.fc{number}.{kind}"]
        for stage in "01":
            renamed[f"network.upscale.{stage}.conv1.{kind}"] = state[f"upscale_block.block.{stage}.conv1.{kind}"]
            renamed[f"network.upscale.{stage}.norm.{kind}"] = state[f"upscale_block.block.{stage}.layernorm2d.{kind}"]
        for block in "0123":
            theirs, ours = f"layers.{block}.", f"{trunk}blocks.{block}."
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                renamed[f"{ours}{layer}.{kind}"] = state[f"{theirs}{layer}.{kind}"]
            renamed[f"{ours}attn.proj.{kind}"] = state[f"{theirs}attention.out_proj.{kind}"]
            parts = [state[f"{theirs}attention.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"{ours}attn.qkv.{kind}"] = torch.cat(parts)
    for stage in "01":
        renamed[f"network.upscale.{stage}.conv2.weight"] = state[f"upscale_block.block.{stage}.conv2.weight"]
    for block in "0123":
        for number in "12":
            gamma = state[f"layers.{block}.layer_scale{number}.lambda1"]
            renamed[f"{trunk}blocks.{block}.ls{number}.gamma"] = gamma
    return renamed


def test_the_authors_layout_needs_no_configuration(hugging_face_eomt, tmp_path):
    model = hugging_face_eomt(hidden_size=64, num_attention_heads=1, num_blocks=3)
    torch.save({"state_dict": as_authors(model)}, tmp_path / "pytorch_model.bin")
    checkpoint = PublishedCheckpoint.read(tmp_path / "pytorch_model.bin")
    assert checkpoint.config == {}
    assert_same_answers(checkpoint, model, tmp_path / "ours")
    converted = convert_checkpoint(checkpoint)
    assert converted.recipe["classes"] == [f"LABEL_{i}" for i in range(5)]
    assert converted.recipe["model"]["decoder"]["init_args"]["num_blocks"] == 3
    assert "network.encoder.pixel_mean" in converted.left_over


@pytest.mark.parametrize(
    ("kind", "config", "name", "millions"),
    [
        ("Eomt", {}, "PlainViT vit_large_patch14_reg4_dinov2", 316),
        (
            "Eomt",
            {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True},
            "PlainViT vit_giant_patch14_reg4_dinov2",
            1164,
        ),
        (
            "Eomt",
            {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
            "PlainViT vit_base_patch14_reg4_dinov2",
            93,
        ),
        ("EomtDinov3", {"layer_norm_eps": 1e-5}, "RotaryViT vit_large_patch16_dinov3_qkvb", 316),
        (
            "EomtDinov3",
            {
                "layer_norm_eps": 1e-5,
                "hidden_size": 384,
                "num_hidden_layers": 12,
                "num_attention_heads": 6,
                "intermediate_size": 1536,
                "num_blocks": 3,
            },
            "RotaryViT vit_small_patch16_dinov3_qkvb",
            24,
        ),
    ],
)
def test_published_architectures_are_timm_models_by_name(kind, config, name, millions):
    """Shapes only; every parameter of theirs has a place in ours."""
    settings = getattr(transformers, f"{kind}Config")(num_labels=133, **config)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForUniversalSegmentation")(settings)
    tensors = {**model.state_dict(), "attn_mask_probs": torch.zeros(settings.num_blocks)}
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors, settings.to_dict()))
    backbone = converted.recipe["model"]["backbone"]
    assert f"{backbone['class_path'].rpartition('.')[2]} {backbone['init_args']['name']}" == name
    assert "options" not in backbone["init_args"]
    assert backbone["init_args"]["image_size"] == 640
    assert len(converted.recipe["classes"]) == 133
    assert sum(w.numel() for w in converted.weights.values()) == sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1)


def test_names_and_test_protocol_come_along(hugging_face_eomt, tmp_path):
    labels = {0: "wall", 1: "screen", 2: "screen", 3: "sky", 4: "tree"}
    checkpoint = read(hugging_face_eomt(id2label=labels), tmp_path)
    assert "data" not in convert_checkpoint(checkpoint).recipe
    config = {**checkpoint.config, "preprocessor": PREPROCESSOR}
    recipe = convert_checkpoint(PublishedCheckpoint("x", checkpoint.tensors, config)).recipe
    assert recipe["classes"] == ["wall", "screen", "screen (2)", "sky", "tree"]
    assert recipe["data"]["protocol"] == {"short_side": 64, "window": 64, "stride": 64}
    panoptic = {**checkpoint.config, "preprocessor": {**PREPROCESSOR, "do_split_image": False}}
    assert "data" not in convert_checkpoint(PublishedCheckpoint("x", checkpoint.tensors, panoptic)).recipe


Change = Callable[[dict[str, Tensor], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("dinov2", lambda t, c: t.pop("query.weight"), "nothing in it becomes queries.content"),
        ("dinov2", lambda t, c: t.pop("class_predictor.bias"), "nothing in it becomes decoder.heads.class_embed.bias"),
        ("dinov2", lambda t, c: t.pop("mask_head.fc2.bias"), r"mask_embed.layers.1.bias \(1 tensors missing\)"),
        ("dinov2", lambda t, c: t.pop("layers.2.attention.k_proj.weight"), r"blocks.2.attn.qkv.weight, only \[0, 2\]"),
        ("dinov2", lambda t, c: t.pop("embeddings.position_embeddings.weight"), "becomes backbone.stem.pos_embed"),
        ("dinov2", lambda t, c: t.update({"layernorm.bias": torch.zeros(3)}), r"backbone.norm.bias is \(3,\) there"),
        (
            "dinov2",
            lambda t, c: t.update({"upscale_block.block.2.conv2.weight": torch.zeros(32, 1, 3, 3)}),
            "nothing in the model takes decoder.upsampler.2.smooth.weight",
        ),
        ("dinov2", lambda t, c: t["attn_mask_probs"].fill_(0.5), r"not annealed to the end .*\[0.5, 0.5\]"),
        ("dinov2", lambda t, c: c.update(layer_norm_eps=1e-5), "layer_norm_eps 1e-05, but only 1e-06"),
        ("dinov3", lambda t, c: c.update(layer_norm_eps=1e-6), "layer_norm_eps 1e-06, but only 1e-05"),
        ("dinov2", lambda t, c: c.update(hidden_act="gelu_new"), "hidden_act gelu_new"),
        ("dinov2", lambda t, c: c.update(num_attention_heads="two"), "num_attention_heads as 'two'"),
        ("dinov2", lambda t, c: c.update(preprocessor={"image_mean": [0.5, 0.5, 0.5]}), r"image_mean \[0.5"),
        (
            "dinov3",
            lambda t, c: t.update({"layers.0.attention.k_proj.bias": torch.ones(32)}),
            "the keys of DINOv3 have no bias",
        ),
        ("dinov3", lambda t, c: t.update({"layers.0.mlp.gate_proj.bias": torch.ones(1)}), "gated MLPs"),
    ],
)
def test_what_would_give_other_answers_is_refused(
    kind: str, change: Change, sentence: str, hugging_face_eomt: Any
) -> None:
    model = hugging_face_eomt(kind)
    tensors, config = dict(model.state_dict()), model.config.to_dict()
    convert_checkpoint(PublishedCheckpoint("x", tensors, config))
    change(tensors, config)
    with pytest.raises(CheckpointError, match=sentence):
        convert_checkpoint(PublishedCheckpoint("x", tensors, config))


def test_key_biases_of_zero_are_left_over(hugging_face_eomt):
    model = hugging_face_eomt("dinov3")
    tensors = {**model.state_dict(), "layers.0.attention.k_proj.bias": torch.zeros(32)}
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors, model.config.to_dict()))
    assert "layers.0.attention.k_proj.bias" in converted.left_over


def test_differences_to_gated_weights_are_refused():
    names = (
        "network.q.weight",
        "network.class_head.weight",
        "network.encoder.backbone.blocks.0.attention.k_proj.weight",
    )
    with pytest.raises(CheckpointError, match="differences to Meta's weights"):
        convert_checkpoint(PublishedCheckpoint("x", {name: torch.zeros(2, 2) for name in names}, {}))
