from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_run
import torch
from safetensors.torch import load_file, save_file

from queryseg.errors import CheckpointError, InputError, RecipeError
from queryseg.segmenter import Segmenter, build_segmenter
from queryseg.training.checkpoint import read_checkpoint, write_checkpoint
from queryseg.training.start import by_part, prepare_folder, start_from_weights


@pytest.fixture
def model() -> Segmenter:
    return build_segmenter(tiny_run.CLASSES, tiny_run.build(tiny_run.settings(Path("nowhere"))).model)


def test_folder_is_made(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b", resume=False)
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        prepare_folder(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    (tmp_path / ".last.ckpt.part").touch()
    with pytest.raises(InputError, match="already holds a run"):
        prepare_folder(tmp_path, resume=False)
    prepare_folder(tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written \(.*\); choose another folder"):
        prepare_folder(tmp_path / "file" / "run", resume=False)


def test_start_from_reports_what_did_not_fit(model: Segmenter, tmp_path: Path) -> None:
    weights = {name: torch.full(value.shape, 0.25) for name, value in model.state_dict().items()}
    del weights["queries.content"]
    weights["backbone.norm.weight"] = torch.zeros(3)
    weights["backbone.more"] = torch.zeros(3)
    save_file(weights, tmp_path / "model.safetensors")
    before = model.queries.content.detach().clone()
    taken = start_from_weights(model, tmp_path)
    report = list(taken.lines)
    assert taken.names == weights.keys() - {"backbone.norm.weight", "backbone.more"}
    total = len(model.state_dict())
    assert report[0].endswith(f"{total - 2} of {total} tensors taken, 1 of another shape, 1 not there, 1 left over.")
    assert report[1:] == [
        "other shape: backbone.norm.weight ((3,) there, (16,) here)",
        "not there: queries.content",
        "left over: backbone.more",
    ]
    assert torch.equal(model.queries.content, before)
    assert model.backbone.norm.bias.eq(0.25).all()


def test_parts_that_are_missing_whole_are_one_line() -> None:
    names = ["trunk.a.weight", "trunk.a.bias", "trunk.b", "heads.box.weight", "heads.box.bias", "heads.norm", "scale"]
    missing = {"trunk.a.weight", "trunk.a.bias", "heads.box.weight", "heads.box.bias", "heads.norm", "scale"}
    assert by_part(names, missing) == ["trunk.a (all 2)", "heads (all 3)", "scale"]
    assert by_part(names, {"trunk.a.bias"}) == ["trunk.a.bias"]


def test_start_from_something_else(model: Segmenter, tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no tensor in common"):
        start_from_weights(model, tmp_path)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    tiny_run.run(tiny_run.settings(data, steps=1, ema_decay=None, validate_every=0), out)
    return out


def test_a_new_run_starts_from_another_one(data: Path, finished: Path, tmp_path: Path) -> None:
    values = tiny_run.settings(data, steps=1, learning_rate=0.0, ema_decay=None)
    tiny_run.run(values, tmp_path, start_from=finished)
    one, two = load_file(finished / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_resume_of_another_architecture(data: Path, finished: Path, tmp_path: Path) -> None:
    """The same recipe, but tensors of another size: a checkpoint that was copied or made by other code."""
    state = read_checkpoint(finished / "last.ckpt")
    state["model"]["queries.content"] = torch.zeros(7, 16)
    write_checkpoint(tmp_path / "last.ckpt", state)
    with pytest.raises(CheckpointError, match=r"queries\.content is \(7, 16\) there, but \(5, 16\)"):
        tiny_run.run(json.loads(state["recipe"]), tmp_path, resume=True)


def test_resume_with_a_changed_recipe(data: Path, finished: Path) -> None:
    values = tiny_run.settings(data, steps=2, ema_decay=None, validate_every=0)
    with pytest.raises(CheckpointError, match=r"training\.steps was 1 and is now 2"):
        tiny_run.run(values, finished, resume=True)


def test_resume_with_other_images(data: Path, tmp_path: Path) -> None:
    root = tiny_run.write_data(tmp_path / "data", num_images=4)
    values = tiny_run.settings(root, steps=1)
    tiny_run.run(values, tmp_path / "run")
    tiny_run.write_data(root, num_images=5)
    with pytest.raises(CheckpointError, match="learned from 4 images"):
        tiny_run.run(values, tmp_path / "run", resume=True)


def test_classes_of_the_data_differ(data: Path, tmp_path: Path) -> None:
    values = tiny_run.settings(data)
    values["data"]["validate"]["same"] = {**values["data"]["train"], "classes": ["a", "b", "c"]}
    with pytest.raises(RecipeError, match=r"data\.validate\.same has the classes a, b, c"):
        tiny_run.run(values, tmp_path)


def test_half_precision_needs_a_gpu(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="16-mixed"):
        tiny_run.run(tiny_run.settings(data, precision="16-mixed"), tmp_path)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_training_image_is_one_sentence(num_workers: int, tmp_path: Path) -> None:
    root = tiny_run.write_data(tmp_path / "data", num_images=3)
    for path in (root / "images").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    values = tiny_run.settings(root)
    values["data"]["num_workers"] = num_workers
    with pytest.raises(InputError) as error:
        tiny_run.run(values, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert str(root / "images") in str(error.value)
