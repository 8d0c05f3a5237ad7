"""Every verb as a user types it: exit codes, one sentence, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from queryseg.cli import evaluate
from queryseg.cli.main import VERBS, main
from queryseg.data.class_table import class_table
from queryseg.data.coco_panoptic import CocoPanoptic, read_segment_ids
from queryseg.errors import InputError
from queryseg.inference.run_folder import read_model
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
    notes = tmp_path / "table.md"
    views = ["--protocol", "rein-512", "--flip", "--scales", "0.05,0.1", "--markdown", str(notes), "--device", "cpu"]
    assert main([*arguments, *views]) == 0
    content = json.loads(table.read_text())
    assert content["protocol"] == (
        "rein-512: fit 1024×512, windows 512/341, labels at native size, scales 0.05, 0.1, flip"
    )
    assert "'home' is the training data of this run" in content["warnings"][0]
    for text in (notes.read_text(), report.read_text().replace("&#x27;", "'")):
        assert "'home' is the training data of this run" in text
        assert "rein-512" in text
    assert "decides sizes" in fails([*arguments, "--protocol", "paper", "--window", "64"], capsys)
    assert "no protocol 'rein512'" in fails([*arguments, "--protocol", "rein512"], capsys)
    assert "--scales is 'x'" in fails([*arguments, "--scales", "x"], capsys)
    assert "names 'home' twice" in fails(["evaluate", str(run), "--data", *sources, sources[0]], capsys)
    arguments += ["--window", "32", "--stride", "20", "--device", "cpu", "--measures"]
    assert main([*arguments, "boundary, calibration"]) == 0
    content = json.loads(table.read_text())
    assert "windows 32/20" in content["protocol"]
    assert list(content["data"]["away"]["measures"]) == ["pixels", "trimap", "boundary_iou", "calibration"]
    assert "choose from boundary, panoptic, calibration" in fails([*arguments, "boundary,borders"], capsys)
    assert main([*arguments, "boundary", "--boundary-widths", "2"]) == 0
    trimap = json.loads(table.read_text())["data"]["home"]["measures"]["trimap"]
    assert list(trimap["scores"]) == ["mean_iou_2px"]
    assert "different whole numbers" in fails([*arguments, "boundary", "--boundary-widths", "0"], capsys)
    assert "add --measures boundary" in fails([*arguments, "calibration", "--boundary-widths", "2"], capsys)

    out = tmp_path / "predictions"
    assert main(["predict", str(run), str(tmp_path / "images"), "--out", str(out), "--device", "cpu"]) == 0
    labels = np.asarray(Image.open(out / "b_labels.png"))
    assert labels.shape == (40, 48)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("queryseg.inference.windows.WHOLE_LIMIT", 40 * 48 - 1)
        capsys.readouterr()
        assert (
            main(["predict", str(run), str(tmp_path / "images"), "--out", str(tmp_path / "o"), "--device", "cpu"]) == 0
        )
        note = "48×40 pixels are too many to be shown whole; shown as: native size, windows 512/341."
        assert capsys.readouterr().out.count(note) == 3
    assert labels.max() < 4
    assert Image.open(out / "b_overlay.png").size == (48, 40)

    import queryseg

    result = queryseg.load(run, device="cpu").predict(tmp_path / "images" / "b.png")
    assert np.array_equal(result.labels, labels)


def test_predict_segments(settings, tmp_path, capsys):
    """Of a folder: PNGs of ids, one JSON in COCO's format, pictures; the same from Python; the rest is refused."""
    run, out, images = tmp_path / "run", tmp_path / "segments", tmp_path / "images"
    classes = {"names": ["road", "building", "sky", "car"], "things": ["car", "sky"]}
    readout = (
        '{"class_path": "queryseg.readouts.Mixture", "init_args": {"object_threshold": 0.0, "overlap_threshold": 0}}'
    )
    options = ["--classes", json.dumps(classes), "--model.readout", readout]
    assert main([*settings, *options, "--out", str(run)]) == 0
    arguments = ["predict", str(run), str(images), "--device", "cpu", "--out", str(out)]
    account = tmp_path / "predict.json"
    assert main([*arguments, "--task", "panoptic", "--json", str(account)]) == 0
    index = CocoPanoptic.read(out / "panoptic.json")
    assert [(image.image_id, image.file_name) for image in index.images] == [(n, f"{n}.png") for n in "abc"]
    assert index.class_table("x").things == {2, 3}
    assert sum(len(image.segments) for image in index.images) > 0
    found = json.loads(account.read_text())["images"]
    for image, told in zip(index.images, found, strict=True):
        ids = read_segment_ids(out / image.label_name)
        assert ids.shape == image.size == (40, 48)
        assert {s.id: s.area for s in image.segments} == {i: int((ids == i).sum()) for i in ids.unique().tolist() if i}
        assert [s["id"] for s in told["segments"]] == [s.id for s in image.segments]
        assert all(s.score is not None for s in image.segments)
    assert Image.open(out / "a_overlay.png").size == (48, 40)
    assert not (out / "a_labels.png").exists()

    import queryseg

    result = queryseg.load(run, device="cpu").predict(images / "b.png", task="panoptic")
    assert np.array_equal(result.segment_map, read_segment_ids(out / "b_panoptic.png").numpy())
    assert main([*arguments, "--task", "instance"]) == 0
    assert (out / "instance.json").exists()
    assert main(arguments) == 0  # what it was trained for: semantic
    assert (out / "b_labels.png").exists()
    assert "is for images" in fails([*arguments[:2], "film.mp4", *arguments[3:], "--task", "panoptic"], capsys)
    unused = ["--out", str(tmp_path / "unused")]
    assert "data.task is panoptic, but" in fails([*settings, "--data.task", "panoptic", *unused], capsys)
    told = fails([*settings, *options, "--data.task", "panoptic", *unused], capsys)
    assert "disagree on whether 'sky' is a thing" in told
    assert "'objects' is given" in fails([*settings, "--data.task", "objects", *unused], capsys)


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
    assert "no cross-attention to show" in fails(["diagnose", str(run), *arguments, "--queries", "1"], capsys)
    assert "0 draws none" in fails(["diagnose", str(run), *arguments, "--attention-images", "-1"], capsys)
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
    capsys.readouterr()
    assert main([*generate, "--split", "train", "--workers", "0", "--panoptic"]) == 0
    assert "train_fog_panoptic.yaml" in capsys.readouterr().out.replace("\n", "")
    assert main(["data", "check", str(out / "train_fog_panoptic.yaml"), "--workers", "0"]) == 0


def test_data_corrupt_and_show(data, tmp_path, capsys):
    out, sheet = tmp_path / "corrupted", tmp_path / "sheet.png"
    corrupt = ["data", "corrupt", str(data), "--out", str(out), "--corruptions", "fog,jpeg:2", "--severities", "1,3"]
    corrupt += ["--workers", "0", "--json", str(tmp_path / "written.json")]
    for written in (9, 0):  # the second run finds everything there
        assert main(corrupt) == 0
        assert json.loads((tmp_path / "written.json").read_text())["written"] == written
    assert sorted(path.name for path in out.glob("*.yaml")) == ["fog-1.yaml", "fog-3.yaml", "jpeg_compression-2.yaml"]
    assert main(["data", "check", str(out / "fog-3.yaml"), "--workers", "0"]) == 0
    show = ["data", "show", str(data), "--out", str(sheet), "--corruptions", "all", "--columns", "5"]
    assert main([*show, "--severities", "3", "--index", "1", "--json", str(tmp_path / "sheet.json")]) == 0
    assert len(json.loads((tmp_path / "sheet.json").read_text())["corruptions"]) == 19
    assert Image.open(sheet).size == (5 * 54 + 6, 4 * 64 + 6)
    assert "Did you mean 'fog'" in fails([*corrupt[:6], "fogg"], capsys)
    assert "no severity '9'" in fails([*corrupt[:6], "fog", "--severities", "9"], capsys)
    assert "--index is 3" in fails([*show, "--index", "3"], capsys)
    for words in (show[:3], show):
        assert "at least one" in fails([*words, "--out", str(sheet), "--columns", "0"], capsys)


def test_evaluate_under_corruptions(settings, data, tmp_path, capsys):
    run, table = tmp_path / "run", tmp_path / "table.json"
    assert main([*settings, "--out", str(run)]) == 0
    evaluate = ["evaluate", str(run), "--data", f"home={data}", "--json", str(table), "--workers", "0"]
    evaluate += ["--device", "cpu"]
    assert main([*evaluate, "--corruptions", "contrast,impulse_noise:5", "--severities", "1,5"]) == 0
    content = json.loads(table.read_text())["data"]
    assert list(content) == ["home", "home/contrast-1", "home/contrast-5", "home/impulse_noise-5"]
    assert [entry["seen_domain"] for entry in content.values()] == [True, False, False, False]
    assert content["home/contrast-5"]["source"] == f"{data} under contrast, severity 5"
    assert len({entry["pixel_accuracy"] for entry in content.values()}) > 1
    assert "Did you mean 'contrast'" in fails([*evaluate, "--corruptions", "contrst"], capsys)
    twice = [word.replace("home=", "home/fog-2=") for word in evaluate]
    twice = [*twice[:4], f"home={data}", *twice[4:], "--corruptions", "fog:2"]
    assert "'home/fog-2', and so does --corruptions" in fails(twice, capsys)


def test_data_audit_and_cache(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("QUERYSEG_CACHE", str(tmp_path / "cache"))
    polygons = {
        "imgWidth": 8,
        "imgHeight": 4,
        "objects": [{"label": "car", "polygon": [[0, 0], [3, 0], [3, 3], [0, 3]]}],
    }
    (tmp_path / "gtFine/val/ulm").mkdir(parents=True)
    (tmp_path / "gtFine/val/ulm/ulm_1_gtFine_polygons.json").write_text(json.dumps(polygons))
    (tmp_path / "leftImg8bit/val/ulm").mkdir(parents=True)
    Image.new("RGB", (8, 4)).save(tmp_path / "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png")
    (tmp_path / "city.yaml").write_text("layout: cityscapes\nsplit: val\n")
    arguments = ["data", "show", str(tmp_path / "city.yaml"), "--audit", "--out", str(tmp_path / "audit.png")]
    assert main([*arguments, "--json", str(tmp_path / "audit.json")]) == 0
    labels = {row["raw"]["name"]: row for row in json.loads((tmp_path / "audit.json").read_text())["labels"]}
    assert (labels["car"]["pixels"], labels["unlabeled"]["class"]) == (16, "ignored")
    assert Image.open(tmp_path / "audit.png").width > 600
    assert "2 of 35 labels met in 1 samples" in capsys.readouterr().out
    kept = list((tmp_path / "cache").rglob("*.npz"))
    assert main(["data", "cache", "--json", str(tmp_path / "cache.json")]) == 0
    assert json.loads((tmp_path / "cache.json").read_text())["bytes"] == kept[0].stat().st_size
    assert main(["data", "cache", "--clear"]) == 0
    assert not kept[0].exists()
    assert main([*arguments, "--columns", "0"]) == 2
    assert main([*arguments, "--num-images", "0"]) == 2


def test_evaluate_several_runs(settings, data, tmp_path, capsys):
    """A matrix in all formats; everything that can be wrong is said before the work."""
    runs = [f"{name}={tmp_path / name}" for name in ("first", "second")]
    for seed, name in enumerate(("first", "second")):
        assert main([*settings, "--seed", str(seed), "--out", str(tmp_path / name)]) == 0
    names = {"json": "matrix.json", "html": "new/matrix.html", "markdown": "matrix.md", "latex": "matrix.tex"}
    outputs = {kind: tmp_path / name for kind, name in names.items()}
    sources = ["--data", f"home={data}", f"away={data}", "--workers", "0", "--device", "cpu"]
    files = [word for kind, path in outputs.items() for word in (f"--{kind}", str(path))]
    command = ["evaluate", *runs, *sources, *files]
    assert main([*command, "--corruptions", "contrast:5", "--timing-rounds", "1", "--seen", "second=away"]) == 0
    content = json.loads(outputs["json"].read_text())
    assert list(content["runs"]) == ["first", "second"]
    assert list(content["runs"]["first"]["data"]) == ["home", "away", "home/contrast-5", "away/contrast-5"]
    found = content["matrix"]
    assert found["targets"] == ["home", "away"]
    assert [found["runs"][run]["training_domain"] for run in ("first", "second")] == [[], ["away"]]
    assert len(found["runs"]["second"]["latency"]["rounds"]) == 1
    assert list(found["runs"]["second"]["corruptions"]) == ["home", "away"]
    assert len(found["worst_images"]) == 4
    assert found["worst_images"][0]["name"] in "abc"
    assert "Worst images" in outputs["html"].read_text()
    assert "### Sources × targets" in outputs["markdown"].read_text()
    assert r"\toprule" in outputs["latex"].read_text()

    finished = outputs["json"].read_bytes()
    for wrong, sentence in (
        ([*command[:2], *command[1:]], "is given twice"),
        (["evaluate", runs[0], f"first={tmp_path / 'second'}", *sources, *files], "Two runs are called 'first'"),
        ([*command, "--corruptions", "fgo"], "Did you mean 'fog'"),
        ([*command[:-1], str(tmp_path)], "cannot be written"),
        (["evaluate", runs[0], "gone=nowhere", *sources, *files], "There is no run nowhere"),
        ([*command, "--timing-rounds", "-1"], "--timing-rounds is -1"),
        ([*command, "--seen", "third=home"], "names the run 'third'"),
    ):
        assert sentence in fails(wrong, capsys)
    assert outputs["json"].read_bytes() == finished, "what was there is not lost"
    recipe = tmp_path / "second" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("- sky", "- heaven"))
    assert "'first' knows label 2 as 'sky', but run 'second' as 'heaven'" in fails(command, capsys)


def test_results_of_finished_runs_are_kept(settings, data, tmp_path, capsys, monkeypatch):
    """The second run meets an image that broke while the first one was evaluated."""
    for name in ("first", "second"):
        assert main([*settings, "--out", str(tmp_path / name)]) == 0
    real, calls = evaluate.evaluate_many, []

    def breaking(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise InputError("Image 'b.png' cannot be read; it may be damaged.")
        return real(*arguments, **options)

    monkeypatch.setattr(evaluate, "evaluate_many", breaking)
    table = tmp_path / "table.json"
    words = ["evaluate", str(tmp_path / "first"), str(tmp_path / "second"), "--data", str(data)]
    assert main([*words, "--json", str(table), "--workers", "0", "--device", "cpu"]) == 2
    printed = capsys.readouterr().out
    assert "IoU per class in %" in printed
    assert "the results of first." in printed.replace("\n", " ")
    assert list(json.loads(table.read_text())["runs"]) == ["first"]


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
    named = ["convert", str(tmp_path / "theirs"), "--out", str(tmp_path / "named"), "--things", "class 3", "class 4"]
    assert main(named) == 0
    assert "2 of them are things; predicts semantic unless" in capsys.readouterr().out
    assert read_model(tmp_path / "named").classes.things == {3, 4}
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    predict = ["predict", str(tmp_path / "named"), str(tmp_path / "a.png"), "--device", "cpu"]
    assert main([*predict, "--task", "panoptic", "--out", str(tmp_path / "segments")]) == 0
    assert CocoPanoptic.read(tmp_path / "segments" / "panoptic.json").class_table("x").things == {3, 4}
    plain = ["predict", str(tmp_path / "plain"), *predict[2:], "--task", "panoptic", "--out", str(tmp_path / "no")]
    assert main(["convert", str(tmp_path / "theirs"), "--out", str(tmp_path / "plain")]) == 0
    assert "No class of 'custom' is a thing" in fails(plain, capsys)
    assert "no class 'class 33'" in fails([*named[:3], str(tmp_path / "x"), "--things", "class 33"], capsys)


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
    assert "3 classes: road, sky, car\n0 of them are things" in capsys.readouterr().out


def test_the_task_of_converted_classes_is_recorded(hugging_face_eomt, tmp_path, capsys):
    """Without names 133 classes are COCO panoptic's and make a panoptic model, told and recorded; named otherwise, they
    are semantic, unless they are COCO's names, in a list, too."""
    hugging_face_eomt(num_labels=133).save_pretrained(tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in content.items() if "label" not in key}))
    convert = ["convert", str(tmp_path / "theirs"), "--out"]
    assert main([*convert, str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "133 classes: person, bicycle, car, motorcycle … (coco_panoptic, by their number)" in told
    assert "80 of them are things; predicts panoptic unless --task says otherwise" in told
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (recipe["classes"], recipe["data"]["task"]) == ("coco_panoptic", "panoptic")
    names = ",".join(class_table("coco_panoptic").names)
    assert main([*convert, str(tmp_path / "named"), "--classes", names]) == 0
    assert yaml.safe_load((tmp_path / "named" / "recipe.yaml").read_text()) == recipe
    others = ",".join(f"class {i}" for i in range(133))
    assert main([*convert, str(tmp_path / "others"), "--classes", others, "--things", "class 5"]) == 0
    told = capsys.readouterr().out
    assert "1 of them are things; predicts semantic unless" in told
    assert "by their number" not in told


def test_known_layouts_are_listed(tmp_path, capsys):
    assert main(["convert", "--list", "--json", str(tmp_path / "list.json")]) == 0
    told = capsys.readouterr().out
    assert "Mask2Former with Swin, as its authors train it (detectron2): converts" in told
    assert "SimCIS with ResNet, as its authors train it (detectron2): converts\n    unverified: names and" in told
    assert "FASeg with Swin, as its authors train it (detectron2): converts" in told
    listed = json.loads((tmp_path / "list.json").read_text())
    assert all(row["source"] for row in listed["formats"])
    unverified = [row["title"].split()[0] for row in listed["formats"] if not row["verified"]]
    assert unverified == ["Rein", "FASeg", "FASeg", "SimCIS"]
    assert "DINOv3" in listed["backbones"]
    assert "Give a checkpoint and --out DIR" in fails(["convert", "x.pth"], capsys)
