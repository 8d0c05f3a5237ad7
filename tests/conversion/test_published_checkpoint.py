"""Foreign checkpoints on disk: what can be read, and one sentence where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.converted import rename
from queryseg.errors import CheckpointError

TENSORS = {"a.weight": torch.ones(2), "b.weight": torch.zeros(3)}


def test_a_folder_in_one_file_or_in_many(tmp_path):
    save_file({"a.weight": TENSORS["a.weight"]}, tmp_path / "model-1.safetensors")
    save_file({"b.weight": TENSORS["b.weight"]}, tmp_path / "model-2.safetensors")
    shards = {"a.weight": "model-1.safetensors", "b.weight": "../elsewhere/model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    (tmp_path / "preprocessor_config.json").write_text('{"do_pad": true}')
    found = PublishedCheckpoint.read(tmp_path)
    assert found.tensors.keys() == TENSORS.keys()
    assert found.config == {"model_type": "x", "preprocessor": {"do_pad": True}}
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert PublishedCheckpoint.read(tmp_path).tensors.keys() == TENSORS.keys()
    (tmp_path / "model-2.safetensors").unlink()
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weight file .*model-2.safetensors"):
        PublishedCheckpoint.read(tmp_path)


def test_a_file_takes_the_configuration_beside_it(tmp_path):
    torch.save(TENSORS, tmp_path / "weights.pth")
    assert PublishedCheckpoint.read(tmp_path / "weights.pth").config == {}
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    assert PublishedCheckpoint.read(tmp_path / "weights.pth").config == {"model_type": "x"}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no model.safetensors or pytorch_model.bin"),
        ({"recipe.yaml": ""}, "is a run of queryseg already"),
        ({"config.json": "{"}, r"config.json cannot be read"),
        ({"config.json": "[]"}, r"config.json holds no settings"),
        ({"model.safetensors": "no tensors"}, "model.safetensors is damaged"),
        ({"model.safetensors.index.json": "{}"}, "index.json names no weight files"),
    ],
)
def test_bad_folders(files: dict[str, str], sentence: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=sentence):
        PublishedCheckpoint.read(tmp_path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="There is no"):
        PublishedCheckpoint.read(tmp_path / "nothing")


def test_unknown_layouts_are_named():
    with pytest.raises(
        CheckpointError,
        match=r"not known here \(model_type segformer\); known are EoMT, Mask2Former, Rein, .*, tqdm, SimCIS and",
    ):
        convert_checkpoint(PublishedCheckpoint("x", TENSORS, {"model_type": "segformer"}))
    with pytest.raises(CheckpointError, match=r"tensors such as a.weight, b.weight"):
        convert_checkpoint(PublishedCheckpoint("x", TENSORS, {}))


def test_renaming_stacks_parts_in_their_order_and_keeps_account():
    tensors = {"v.1": torch.tensor([3.0]), "q.1": torch.tensor([1.0]), "k.1": torch.tensor([2.0]), "x": torch.ones(1)}
    rules = (*((rf"{part}\.(\d)", rf"attention.\1[{i}]") for i, part in enumerate("qkv")), ("x", ""))
    renamed, left_over = rename({**tensors, "unknown": torch.ones(1)}, rules)
    assert {name: t.tolist() for name, t in renamed.items()} == {"attention.1": [1.0, 2.0, 3.0]}
    assert left_over == ("x", "unknown")
    with pytest.raises(CheckpointError, match=r"attention.1, only \[0, 2\]"):
        rename({name: t for name, t in tensors.items() if name != "k.1"}, rules)
