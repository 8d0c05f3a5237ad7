"""Every verb as a user types it: exit codes, one sentence, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from queryseg.cli.main import VERBS, main
from queryseg.objectives import SetCriterion

DATA = """
layout: folders
root: .
classes: [road, building, sky, car]
label_map: {preset: identity, ignore: [255]}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures of 40×48 in four flat colours; their labels say which."""
    draw = np.random.default_rng(0)
    colors = np.array([[90, 90, 90], [150, 60, 40], [120, 180, 250], [20, 20, 160]], np.uint8)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in "abc":
        labels = draw.integers(0, 4, (5, 6), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(colors[labels]).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
    path = tmp_path / "data.yaml"
    path.write_text(DATA)
    return path


@pytest.fixture
def settings(data: Path, recipe_path: Path) -> list[str]:
    """A training command line of seconds."""
    return [
        "train", str(recipe_path), "--data.crop", "[32, 32]", "--data.short_sides", "[40]", "--data.num_workers", "0",
        "--training.steps", "3", "--training.batch_size", "2", "--accelerator", "cpu",
    ]  # fmt: skip


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a command line that is refused."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("queryseg: ")
    assert error.count("\n") == 1
    return error


def test_train_evaluate_predict(settings, data, tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*settings, "--out", str(run), "--json", str(tmp_path / "train.json")]) == 0
    assert json.loads((tmp_path / "train.json").read_text())["steps"] == 3
    assert {"recipe.yaml", "model.safetensors", "last.ckpt", "metrics.csv"} <= {p.name for p in run.iterdir()}

    table, report = tmp_path / "table.json", tmp_path / "report.html"
    sources = [f"home={data}", f"away={data}"]
    arguments = [
        "evaluate",
        str(run),
        "--data",
        *sources,
        "--json",
        str(table),
        "--html",
        str(report),
        "--workers",
        "0",
    ]
    assert main([*arguments, "--device", "cpu"]) == 0
    content = json.loads(table.read_text())
    assert content["data"]["home"]["mean_iou"] == content["data"]["away"]["mean_iou"]
    assert "native size, whole image" in content["protocol"]
    assert "away" in report.read_text()
    assert main([*arguments, "--window", "32", "--stride", "20", "--device", "cpu"]) == 0
    assert "windows 32/20" in json.loads(table.read_text())["protocol"]

    out = tmp_path / "predictions"
    assert main(["predict", str(run), str(tmp_path / "images"), "--out", str(out), "--device", "cpu"]) == 0
    labels = np.asarray(Image.open(out / "b_labels.png"))
    assert labels.shape == (40, 48)
    assert labels.max() < 4
    assert Image.open(out / "b_overlay.png").size == (48, 40)

    import queryseg

    result = queryseg.load(run, device="cpu").predict(tmp_path / "images" / "b.png")
    assert np.array_equal(result.labels, labels)


def test_diagnose(settings, data, tmp_path, capsys):
    run, other, out = tmp_path / "run", tmp_path / "other", tmp_path / "queries"
    validate = ["--data.validate", json.dumps({"home": str(data)})]
    assert main([*settings, *validate, "--out", str(run)]) == 0
    assert main([*settings, *validate, "--model.queries.num_queries", "5", "--out", str(other)]) == 0
    arguments = ["--data", f"home={data}", f"away={data}", "--device", "cpu", "--workers", "0", "--out", str(out)]
    copy = tmp_path / "copy.json"
    assert main(["diagnose", str(run), str(other), *arguments, "--json", str(copy)]) == 0
    content = json.loads((out / "diagnostics.json").read_text())
    assert content == json.loads(copy.read_text())
    assert [found["num_queries"] for found in content["runs"].values()] == [6, 5]
    home, away = (content["runs"]["run"]["domains"][name]["figures"] for name in ("home", "away"))
    assert home == away
    assert {"report.html", "query_prototypes.png", "similarity.png", "activity.png", "occupancy.png"} <= {
        path.name for path in out.iterdir()
    }
    events = EventAccumulator(str(run)).Reload()
    for key, value in home.items():
        if value is not None:  # training said the same after its last step
            assert [e.value for e in events.Scalars(f"queries/home/{key}")] == [
                pytest.approx(value, rel=1e-5, abs=1e-7)
            ]
    assert [image.step for image in events.Images("queries")] == [3]

    assert "given twice" in fails(["diagnose", str(run), str(run), *arguments], capsys)
    assert "look at 1 at least" in fails(["diagnose", str(run), *arguments, "--num-images", "-2"], capsys)
    assert "names 'home' twice" in fails(["diagnose", str(run), "--data", "home=a", "home=b", "--out", "x"], capsys)
    assert "There is no run" in fails(["diagnose", str(tmp_path / "no"), *arguments], capsys)


def test_diagnose_needs_queries(settings, data, tmp_path, capsys):
    run = tmp_path / "run"
    without = [
        "--model.queries", "queryseg.queries.NoQueries", "--model.decoder", "queryseg.decoders.PixelClassifier",
        "--model.readout", "queryseg.readouts.PerPixel", "--data.validate", json.dumps({"home": str(data)}),
        "--objectives", json.dumps({"pixel": {"class_path": "queryseg.objectives.PixelCrossEntropy"}}),
    ]  # fmt: skip
    assert main([*settings, *without, "--out", str(run)]) == 0
    assert not [tag for tag in EventAccumulator(str(run)).Reload().Tags()["scalars"] if tag.startswith("queries")]
    sentence = fails(["diagnose", str(run), "--data", str(data), "--device", "cpu", "--out", str(tmp_path)], capsys)
    assert "PixelClassifier classifies pixels without queries" in sentence


def test_training_again_into_a_run_is_refused_and_resume_needs_one(settings, tmp_path, capsys):
    run = tmp_path / "run"
    assert "resume" in fails([*settings, "--out", str(run), "--resume"], capsys)
    assert main([*settings, "--out", str(run)]) == 0
    before = (run / "last.ckpt").read_bytes()
    assert "--resume" in fails([*settings, "--out", str(run)], capsys)
    assert "steps" in fails([*settings, "--training.steps", "4", "--out", str(run), "--resume"], capsys)
    assert (run / "last.ckpt").read_bytes() == before


def test_a_loaded_checkpoint_of_another_recipe_is_refused(settings, tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*settings, "--out", str(run)]) == 0
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("num_queries: 6", "num_queries: 7"))
    assert "queries.content" in fails(["predict", str(run), str(tmp_path / "images"), "--out", str(tmp_path)], capsys)
    (run / "recipe.yaml").write_text(recipe.replace("queryseg.readouts.Mixture", "os.system"))
    sentence = fails(["predict", str(run), str(tmp_path / "images"), "--out", str(tmp_path)], capsys)
    assert "--allow-code os" in sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train"], "required"),
        (["train", "nothing.yaml", "--out", "run"], "There is no recipe nothing.yaml"),
        (["evaluate", "nothing", "--data", "a=b.yaml"], "There is no data file"),
        (["predict", "nothing", "nowhere.png", "--out", "out"], "nowhere.png"),
        (["predict", "nothing", "nowhere.png", "--ouput", "out"], "--out"),
        (["data", "check", "nothing.yaml"], "There is no data file"),
        (["data", "generate", "--out", "x", "--domain", "frog"], "fog"),
        (["data", "generate", "--out", "x", "--num-images", "0"], "at least 1"),
        (["list", "seam"], "There is no seam 'seam'"),
    ],
)
def test_wrong_command_lines_are_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sentence in fails(arguments, capsys)


def test_broken_data_is_one_sentence(settings, data, tmp_path, capsys):
    image = tmp_path / "images" / "b.png"
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    assert "b.png" in fails([*settings, "--out", str(tmp_path / "run")], capsys)
    assert "b.png" in fails([*settings, "--data.num_workers", "1", "--out", str(tmp_path / "other")], capsys)
    assert main(["data", "check", str(data), "--workers", "0"]) == 1
    image.unlink()
    assert "label" in fails([*settings, "--out", str(tmp_path / "third")], capsys)
    image.write_bytes(content)
    Image.fromarray(np.full((40, 48), 9, np.uint8)).save(tmp_path / "labels" / "b.png")
    assert "9" in fails([*settings, "--out", str(tmp_path / "fourth")], capsys)
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(tmp_path / "labels" / "b.png")
    assert "RGB" in fails([*settings, "--out", str(tmp_path / "fifth")], capsys)


def test_an_output_folder_that_cannot_be_written(settings, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "--out" in fails([*settings, "--out", str(blocked / "run")], capsys)


def test_data_generate_check_show(tmp_path, capsys):
    out = tmp_path / "streets"
    generate = ["data", "generate", "--out", str(out), "--domain", "fog", "--num-images", "2", "--size", "64", "128"]
    assert main([*generate, "--split", "val", "--workers", "0"]) == 0
    data_file = str(out / "val_fog.yaml")
    assert main(["data", "check", data_file, "--workers", "0", "--json", str(tmp_path / "check.json")]) == 0
    assert json.loads((tmp_path / "check.json").read_text())["num_usable"] == 2
    assert main(["data", "show", data_file, "--out", str(tmp_path / "sheet.png")]) == 0
    assert Image.open(tmp_path / "sheet.png").width > 600


def test_help_names_every_verb(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)
    assert main(["--version"]) == 0


def test_list_names_every_part(tmp_path, capsys):
    assert main(["list", "--json", str(tmp_path / "list.json")]) == 0
    listing = json.loads((tmp_path / "list.json").read_text())
    assert [p["class_path"].rpartition(".")[2] for p in listing["backbones"]] == [
        "PlainViT", "PyramidBackbone", "RotaryViT", "SamViT",
    ]  # fmt: skip
    assert all(part["summary"].endswith((".", ":")) or part["summary"] for parts in listing.values() for part in parts)


def test_nan_stops_the_run_and_names_the_batch(settings, tmp_path, capsys, monkeypatch):
    real = SetCriterion.losses
    monkeypatch.setattr(SetCriterion, "losses", lambda *a: {k: v * float("nan") for k, v in real(*a).items()})
    sentence = fails([*settings, "--out", str(tmp_path / "run")], capsys)
    assert "step" in sentence
    assert any("fail" in p.name for p in (tmp_path / "run").iterdir())


def test_convert_predict_evaluate(hugging_face_eomt, data, tmp_path, capsys):
    """A published checkpoint is a run like any other."""
    labels = dict(enumerate(("road", "building", "sky", "car")))
    hugging_face_eomt(id2label=labels).save_pretrained(tmp_path / "theirs")
    run, account = tmp_path / "run", tmp_path / "convert.json"
    assert main(["convert", str(tmp_path / "theirs"), "--out", str(run), "--json", str(account)]) == 0
    told = capsys.readouterr().out
    assert "left over: attn_mask_probs, criterion.empty_weight" in told
    assert "4 classes: road, building, sky, car" in told
    assert f"queryseg predict {run}" in told
    content = json.loads(account.read_text())
    assert len(content["matched"]) == 82
    assert content["left_over"] == ["attn_mask_probs", "criterion.empty_weight"]

    pictures = tmp_path / "pictures"
    image = str(tmp_path / "images" / "a.png")
    assert main(["predict", str(run), image, "--out", str(pictures), "--device", "cpu"]) == 0
    assert Image.open(pictures / "a_labels.png").size == Image.open(image).size
    arguments = ["evaluate", str(run), "--data", str(data), "--workers", "0", "--device", "cpu"]
    assert main([*arguments, "--json", str(tmp_path / "table.json")]) == 0
    assert "mean_iou" in json.loads((tmp_path / "table.json").read_text())["data"]["data"]

    assert "already holds a model" in fails(["convert", str(tmp_path / "theirs"), "--out", str(run)], capsys)
    assert "run of queryseg already" in fails(["convert", str(run), "--out", str(tmp_path / "again")], capsys)
    arguments = ["convert", str(tmp_path / "theirs"), "--out", str(tmp_path / "other"), "--classes", "cityscapes"]
    assert "has 19 classes, but" in fails(arguments, capsys)
    assert not (tmp_path / "other").exists()


def test_converted_classes_may_be_named_by_a_table(hugging_face_eomt, tmp_path, capsys):
    hugging_face_eomt(num_labels=19).save_pretrained(tmp_path / "theirs")
    arguments = ["convert", str(tmp_path / "theirs"), "--out", str(tmp_path / "run"), "--classes", "cityscapes"]
    assert main(arguments) == 0
    assert "19 classes: road, sidewalk" in capsys.readouterr().out
    assert "classes: cityscapes" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_classes_that_nothing_names_must_be_named(hugging_face_eomt, tmp_path, capsys):
    model = hugging_face_eomt(num_labels=3)
    model.config.id2label = {}
    model.save_pretrained(tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in content.items() if "label" not in key}))
    arguments = ["convert", str(tmp_path / "theirs"), "--out", str(tmp_path / "run")]
    assert "has 3 classes and does not say what they are; name them with --classes" in fails(arguments, capsys)
    assert "has 2 classes, but" in fails([*arguments, "--classes", "road,sky"], capsys)
    assert not (tmp_path / "run").exists()
    assert main([*arguments, "--classes", "road, sky,car"]) == 0
    assert "3 classes: road, sky, car" in capsys.readouterr().out


def test_known_layouts_are_listed(tmp_path, capsys):
    assert main(["convert", "--list", "--json", str(tmp_path / "list.json")]) == 0
    told = capsys.readouterr().out
    assert "Mask2Former with Swin, as its authors train it (detectron2): converts" in told
    assert "SimCIS with ResNet, as its authors train it (detectron2): recognised; its method is not part" in told
    listed = json.loads((tmp_path / "list.json").read_text())
    assert all(row["source"] for row in listed["formats"])
    assert [row["title"].split()[0] for row in listed["formats"] if not row["verified"]] == ["Rein"]
    assert "DINOv3" in listed["backbones"]
    assert "Give a checkpoint and --out DIR" in fails(["convert", "x.pth"], capsys)
