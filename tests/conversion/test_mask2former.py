"""Hugging Face's Mask2Former becomes a run that answers alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from queryseg.conversion.mask2former import convert, recognises
from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import load_weights, read_model, write_model, write_recipe
from queryseg.recipe_file import build_untrained

TOLERANCE = {"rtol": 0.0, "atol": 1e-9}
Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]
IN_MEMORY = ("model.pixel_level_module.encoder.swin.encoder.layers.0.blocks.0.attention.q_proj.weight",)
IN_FILES = ("model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.query.weight",)


@pytest.fixture
def model(hugging_face_mask2former: Callable[..., Any]) -> Any:
    return hugging_face_mask2former()


@pytest.fixture
def checkpoint(model: Any, tmp_path: Path) -> Checkpoint:
    """As it lies on the hub."""
    model.save_pretrained(tmp_path / "hub")
    return load_file(tmp_path / "hub" / "model.safetensors"), json.loads((tmp_path / "hub/config.json").read_text())


def rebuilt(tensors: dict[str, Tensor], config: dict[str, Any]) -> Any:
    converted = convert(tensors, config)
    ours = build_untrained(converted.recipe)
    load_weights(ours, converted.weights, "converted")
    return ours.double()


@pytest.mark.parametrize("size", [(128, 128), (96, 160)], ids=["windows fit", "windows are padded"])
@pytest.mark.parametrize("layout", [IN_FILES, IN_MEMORY], ids=["files", "memory"])
def test_every_reading_equals_theirs(size: tuple[int, int], layout: Any, model: Any, checkpoint: Checkpoint) -> None:
    tensors, config = checkpoint if layout is IN_FILES else (model.state_dict(), checkpoint[1])
    assert set(layout) <= tensors.keys()
    ours = rebuilt(tensors, config)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images, output_auxiliary_logits=True)
        readings = ours.train()(images).predictions
        final = ours.eval()(images).final
    assert len(readings) == 5
    for reading, other in zip(readings, [*expected.auxiliary_logits, expected], strict=True):
        torch.testing.assert_close(reading.mask_logits, other["masks_queries_logits"], **TOLERANCE)
        torch.testing.assert_close(reading.class_logits, other["class_queries_logits"], **TOLERANCE)
    torch.testing.assert_close(final.mask_logits, expected.masks_queries_logits, **TOLERANCE)


def test_it_becomes_a_run(model: Any, checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert recognises(*checkpoint)
    converted = convert(checkpoint[0], {**checkpoint[1], "preprocessor": {"size": {"shortest_edge": 512}}})
    assert converted.recipe["classes"] == ["road", "building", "sky"]
    assert converted.recipe["data"] == {"protocol": {"short_side": 512}}
    assert set(converted.left_over) == {
        "criterion.empty_weight",
        "model.pixel_level_module.encoder.swin.layernorm.bias",
        "model.pixel_level_module.encoder.swin.layernorm.weight",
    }
    run = tmp_path / "run"
    run.mkdir()
    write_recipe(run, converted.recipe)
    write_model(run, {name: value.float() for name, value in converted.weights.items()})
    loaded = read_model(run)
    assert loaded.classes.names == ("road", "building", "sky")
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model.float()(images)
        found = loaded.model(images).final
    torch.testing.assert_close(found.mask_logits, expected.masks_queries_logits, rtol=1e-3, atol=1e-3)


def test_a_file_without_config_is_told_from_its_tensors(checkpoint: Checkpoint) -> None:
    tensors, config = checkpoint
    assert recognises(tensors, {})
    assert not recognises({"query.weight": torch.zeros(1)}, {"model_type": "eomt"})
    recipe = convert(tensors, {"num_attention_heads": 4}).recipe
    assert recipe["classes"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert recipe["model"] == convert(tensors, config).recipe["model"]


def test_classes_of_one_name_are_told_apart(checkpoint: Checkpoint) -> None:
    tensors, config = checkpoint
    config["id2label"] = {"0": "screen", "1": "sky", "2": "screen"}
    assert convert(tensors, config).recipe["classes"] == ["screen", "sky", "screen (2)"]


def test_a_missing_tensor_of_any_kind_is_noticed(checkpoint: Checkpoint) -> None:
    tensors, config = checkpoint
    whole = convert(tensors, config)
    shapes = {name: value.shape for name, value in build_untrained(whole.recipe).state_dict().items()}
    assert {name: value.shape for name, value in whole.weights.items()} == shapes
    kinds = {re.sub(r"\d+", "0", name): name for name in tensors if name not in whole.left_over}
    assert len(kinds) > 70
    for name in kinds.values():
        try:
            partial = convert({key: value for key, value in tensors.items() if key != name}, config)
        except CheckpointError:
            continue
        assert partial.recipe == whole.recipe
        assert {name: value.shape for name, value in partial.weights.items()} != shapes  # `load_weights` refuses these
    tensors.pop("model.transformer_module.decoder.layernorm.bias")
    with pytest.raises(CheckpointError, match=r"it has no decoder\.heads\.norm\.bias"):
        rebuilt(tensors, config)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"backbone_config": {"model_type": "resnet"}}, "backbone of type 'resnet', but only Swin"),
        ({"backbone_config": {"use_absolute_embeddings": True}}, "use_absolute_embeddings True in its backbone_config"),
        ({"pre_norm": True}, "pre_norm True in config.json, but only False"),
        ({"activation_function": "gelu"}, "activation_function gelu"),
        ({"preprocessor": {"image_mean": [0.5, 0.5, 0.5]}}, "image_mean .*but Swin here expects ImageNet's"),
    ],
)
def test_what_would_answer_otherwise_is_refused(change: dict[str, Any], sentence: str, checkpoint: Checkpoint) -> None:
    tensors, config = checkpoint
    with pytest.raises(CheckpointError, match=sentence):
        convert(tensors, {**config, **change})


def test_another_projection_is_refused(hugging_face_mask2former: Callable[..., Any]) -> None:
    model = hugging_face_mask2former(enforce_input_projection=True)
    with pytest.raises(CheckpointError, match="projects levels once more"):
        convert(model.state_dict(), {})
