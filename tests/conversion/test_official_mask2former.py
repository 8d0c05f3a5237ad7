"""Mask2Former as detectron2, mmdetection and mmsegmentation save it becomes a run that answers alike."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.data.class_table import class_table
from queryseg.errors import CheckpointError
from queryseg.inference.predictor import recorded_task
from queryseg.inference.run_folder import load_weights
from queryseg.recipe_file import build_untrained

from . import official_mask2former as official

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 24, "dim_feedforward": 48,
    "encoder_layers": 2, "decoder_layers": 5, "num_attention_heads": 8, "num_queries": 5,
    "id2label": {0: "road", 1: "building", 2: "sky"},
}  # fmt: skip
STAGES = [f"stage{i}" for i in range(1, 5)]


def hugging_face(trunk: str, **changes: Any) -> Any:
    """Float64, random; batch norms with statistics of their own."""
    if trunk == "swin":
        backbone = transformers.SwinConfig(
            embed_dim=8, depths=[1, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=4, out_features=STAGES
        )
    else:
        backbone = transformers.ResNetConfig(depths=[1, 2, 1, 1], out_features=STAGES)
    config = transformers.Mask2FormerConfig(backbone_config=backbone, **{**SIZES, **changes})
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, min(0.2, 4 * parameter[0].numel() ** -0.5))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 2.0)
    return model.double().eval()


WRITERS: dict[str, Callable[[Any], dict[str, Tensor]]] = {
    "detectron2-resnet": lambda m: {**official.detectron2_head(m), **official.detectron2_resnet(m)},
    "detectron2-swin": lambda m: {**official.detectron2_head(m), **official.swin(m, mmdetection=False)},
    "mmdetection-resnet": lambda m: {**official.mmdetection_head(m, "panoptic_head"), **official.mmdetection_resnet(m)},
    "mmsegmentation-resnet": lambda m: {**official.mmdetection_head(m), **official.mmdetection_resnet(m)},
    "mmsegmentation-swin": lambda m: {**official.mmdetection_head(m), **official.swin(m, mmdetection=True)},
}


def write(state: dict[str, Tensor], layout: str, path: Path) -> Path:
    """detectron2: a pickle of arrays, as the official files; the others: as mmengine saves."""
    if layout.startswith("detectron2"):
        arrays = {name: value.detach().numpy() for name, value in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "third_party"}))
    else:
        torch.save({"meta": {"iter": 3}, "state_dict": {k: v.detach() for k, v in state.items()}}, path)
    return path


@pytest.mark.parametrize("layout", WRITERS)
def test_every_reading_equals_hugging_faces(layout, tmp_path):
    model = hugging_face(layout.partition("-")[2])
    checkpoint = PublishedCheckpoint.read(write(WRITERS[layout](model), layout, tmp_path / "model_final.pkl"))
    converted = convert_checkpoint(checkpoint)
    assert layout.partition("-")[0].removesuffix("mentation").removesuffix("ection") in converted.layout
    assert converted.verified
    assert converted.unexpected == ()
    assert all("relative_position_index" in name or "empty_weight" in name for name in converted.left_over)
    ours = build_untrained(converted.recipe)
    load_weights(ours, converted.weights, "converted")
    ours = ours.double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images, output_auxiliary_logits=True)
        # batch norms stay as they are: only the decoder's readings are those of training
        ours.eval()
        ours.decoder.train()
        readings = ours(images).predictions
    assert len(readings) == 5
    for reading, other in zip(readings, [*expected.auxiliary_logits, expected], strict=True):
        for found, wanted in (
            (reading.mask_logits, other["masks_queries_logits"]),
            (reading.class_logits, other["class_queries_logits"]),
        ):
            assert float(wanted.std()) > 1e-3
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9 * float(wanted.std()))


def test_a_file_of_the_first_version(tmp_path):
    """Contents of queries were called static_query."""
    state = {
        name.replace("query_feat", "static_query"): t
        for name, t in WRITERS["detectron2-swin"](hugging_face("swin")).items()
    }
    converted = convert_checkpoint(PublishedCheckpoint("x", state, {}))
    assert "queries.content" in converted.weights


@pytest.mark.parametrize("layout", ["detectron2-swin", "mmdetection-resnet"])
@pytest.mark.parametrize(
    ("count", "table", "things", "task"),
    [(19, "cityscapes", 8, "semantic"), (133, "coco_panoptic", 80, "panoptic"), (7, None, 0, "semantic")],
)
def test_classes_and_task_come_from_their_number(layout, count, table, things, task):
    state = WRITERS[layout](hugging_face(layout.partition("-")[2], id2label={i: str(i) for i in range(count)}))
    converted = convert_checkpoint(PublishedCheckpoint("x", state, {}))
    assert converted.recipe["classes"] == (table or [f"LABEL_{i}" for i in range(count)])
    assert converted.unnamed == (table is None)
    assert len(class_table(converted.recipe["classes"]).things) == things
    assert recorded_task(converted.recipe) == task


@pytest.mark.parametrize("layout", ["detectron2-resnet", "mmsegmentation-swin"])
def test_what_is_missing_misshapen_or_unexpected_is_told(layout):
    state = WRITERS[layout](hugging_face(layout.partition("-")[2]))
    extra = {**state, "aux_head.weight": torch.ones(2)}
    assert convert_checkpoint(PublishedCheckpoint("x", extra, {})).unexpected == ("aux_head.weight",)
    name = next(name for name in state if "sampling_offsets.bias" in name and ".1." in name)
    with pytest.raises(CheckpointError, match=rf"^x is Mask2Former with .* not whole \(1 missing: {name}\)"):
        convert_checkpoint(PublishedCheckpoint("x", {k: v for k, v in state.items() if k != name}, {}))
    with pytest.raises(CheckpointError, match=rf"1 of another shape: {name} \(3,\) instead of \(192,\)"):
        convert_checkpoint(PublishedCheckpoint("x", {**state, name: torch.ones(3)}, {}))


@pytest.mark.parametrize("layout", WRITERS)
def test_no_tensor_can_be_lost_unnoticed(layout):
    """Leaving out any kind of tensor is an error."""
    state = WRITERS[layout](hugging_face(layout.partition("-")[2]))
    no_use = ("relative_position_index", "empty_weight", "num_batches_tracked")
    for name in list(state)[:: len(state) // 12]:
        if not name.endswith(no_use):
            with pytest.raises(CheckpointError):
                convert_checkpoint(PublishedCheckpoint("x", {k: v for k, v in state.items() if k != name}, {}))
