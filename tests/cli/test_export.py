"""`queryseg export` as a user types it."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

import queryseg
from queryseg.cli.main import main
from queryseg.inference.run_folder import write_model, write_recipe
from queryseg.recipe_file import build_untrained, read_recipe, resolve


@pytest.fixture
def run(recipe_path, tmp_path):
    """A run whose model predicts several classes on streets."""
    folder = tmp_path / "run"
    folder.mkdir()
    recipe = resolve(read_recipe(recipe_path, ["data.crop=[64, 64]"]))
    torch.manual_seed(3)
    model = build_untrained(recipe)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_(std=0.2)
    write_recipe(folder, recipe)
    write_model(folder, model.state_dict())
    return folder


def test_export_predict(run, tmp_path, capsys):
    file, report = tmp_path / "model.pt2", tmp_path / "report.json"
    words = ["export", str(run), "--format", "torch", "--out", str(file), "--device", "cpu", "--json", str(report)]
    assert main(words) == 0
    assert "passed" in capsys.readouterr().out
    content = json.loads(report.read_text())
    assert content["size"] == [64, 64], "the crop of the recipe"
    assert len(content["data"]) == 6
    record = queryseg.load(file, device="cpu").engine.record
    assert record.weights == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()

    torch.manual_seed(0)
    picture = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    own, exported = (queryseg.load(source, device="cpu").predict(picture).labels for source in (run, file))
    assert (own == exported).mean() > 0.9999

    words[5] = str(tmp_path / "model.bin")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "does not end in .pt2" in error
    assert error.count("\n") == 1
