"""`queryseg export` as a user types it."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from PIL import Image

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

    for folder, shape in (("images", (64, 64, 3)), ("labels", (64, 64))):
        (tmp_path / folder).mkdir()
        values = torch.randint(0, 256 if folder == "images" else 4, shape, dtype=torch.uint8)
        Image.fromarray(values.numpy()).save(tmp_path / folder / "one.png")
    (tmp_path / "data.yaml").write_text(
        "{layout: folders, root: ., images: images, labels: labels, classes: [road, building, sky, car], "
        "label_map: {road: [0], building: [1], sky: [2], car: [3]}}"
    )
    scores = []
    for source in (run, file):
        words_of = ["evaluate", str(source), "--data", f"own={tmp_path / 'data.yaml'}", "--json", str(report)]
        assert main([*words_of, "--device", "cpu", "--workers", "0", "--html", str(tmp_path / "report.html")]) == 0
        scores.append(json.loads(report.read_text()))
    assert scores[0]["data"]["own"]["mean_iou"] == pytest.approx(scores[1]["data"]["own"]["mean_iou"], abs=1e-3)
    assert scores[1]["model"]["parameters"] is None
    assert scores[1]["model"]["checkpoint"].startswith("torch file in fp32")
    assert (
        main(["evaluate", str(file), "--data", f"own={tmp_path / 'data.yaml'}", "--window", "96", "--stride", "32"])
        == 2
    )
    assert "--scores" in capsys.readouterr().err

    words[5] = str(tmp_path / "model.bin")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "does not end in .pt2" in error
    assert error.count("\n") == 1
