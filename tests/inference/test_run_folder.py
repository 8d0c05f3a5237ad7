from __future__ import annotations

import errno
import os

import pytest
import torch

from queryseg.errors import CheckpointError, RecipeError
from queryseg.inference.run_folder import MODEL, RECIPE, read_model, replace_file, write_model, write_recipe
from queryseg.recipe_file import build_untrained, read_recipe, resolve


@pytest.fixture
def run(recipe_path, tmp_path):
    resolved = resolve(read_recipe(recipe_path))
    folder = tmp_path / "run"
    folder.mkdir()
    write_recipe(folder, resolved)
    write_model(folder, build_untrained(resolved).state_dict())
    return folder


def test_a_run_comes_back_as_it_was_saved(run):
    loaded = read_model(run)
    assert loaded.classes.names == ("road", "building", "sky", "car")
    assert not loaded.model.training
    again = read_model(run)
    for (name, a), b in zip(loaded.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("name", "sentence"), [(RECIPE, "has no recipe.yaml"), (MODEL, "There is no .*model.safetensors")]
)
def test_a_missing_file_is_named(run, name, sentence):
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=sentence):
        read_model(run)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="There is no run"):
        read_model(tmp_path / "nothing")


def test_truncated_weights_are_refused(run):
    content = (run / MODEL).read_bytes()
    (run / MODEL).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        read_model(run)


def test_a_pickle_is_refused(run):
    torch.save({"a": torch.zeros(1)}, run / MODEL)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read_model(run)


def test_weights_of_another_architecture_name_the_tensor(run, recipe_path):
    other = resolve(read_recipe(recipe_path, ["--model.queries.num_queries", "9"]))
    write_recipe(run, other)
    with pytest.raises(CheckpointError, match=r"queries.content is \(6, 32\) there, but \(9, 32\)"):
        read_model(run)
    write_recipe(run, resolve(read_recipe(recipe_path, ["--model.backbone.options.depth", "4"])))
    with pytest.raises(CheckpointError, match=r"it has no backbone.blocks.3"):
        read_model(run)


def test_a_recipe_of_something_else(run):
    (run / RECIPE).write_text("layout: streets")
    with pytest.raises(RecipeError, match="not the recipe of a run"):
        read_model(run)


def test_a_full_disk_keeps_the_file_before(run, monkeypatch):
    before = (run / MODEL).read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    weights = read_model(run).model.state_dict()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write_model(run, weights)
    with pytest.raises(CheckpointError, match="No space left"):
        replace_file(run / RECIPE, b"")
    assert (run / MODEL).read_bytes() == before
    assert sorted(p.name for p in run.iterdir()) == [MODEL, RECIPE]
    read_model(run)
