"""A continual run as a whole: its folders, killed and resumed, step by step, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tiny_continual
import torch
from rich.console import Console
from safetensors.torch import load_file

from queryseg.cli.main import main
from queryseg.continual.objectness_table import objectness_over_steps
from queryseg.continual.step_scores import StepScores
from queryseg.data.data_file import open_data
from queryseg.data.protocol import Protocol
from queryseg.errors import CheckpointError, InputError, QuerysegError, RecipeError, UsageError
from queryseg.inference.run_folder import read_run_recipe
from queryseg.loading import load
from queryseg.objectives.query_bank import BANK_FILE, QueryBank

MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    tiny_continual.run(tiny_continual.recipe(data), out)
    return out


JOINT = {"base": ["sky", "road"], "old": ["sky", "road", "car", "tree"]}
"""Groups of a joint training, which stands where the last step does."""


def same_models(a: Path, b: Path) -> bool:
    first, second = load_file(a / MODEL), load_file(b / MODEL)
    return all(torch.equal(value, second[name]) for name, value in first.items())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


# ───────────────────────────── the run ─────────────────────────────


def test_every_step_is_an_ordinary_run_that_begins_where_the_one_before_ended(whole, data):
    """Learned so much that weights differ; step 2 sees its classes alone, in images that show them."""
    assert not same_models(whole / "step_1", whole / "step_2")
    for step, (labelled, images) in {1: ([0, 1], 7), 2: ([2, 3], 7), 3: ([4], 4)}.items():
        recipe = read_run_recipe(whole / f"step_{step}")
        train = open_data(recipe["data"]["train"])
        assert len(train) == images
        seen = torch.cat([train[i].label_map.unique() for i in range(len(train))]).unique().tolist()
        assert seen == [*labelled, 255]
        assert recipe["training"]["steps"] == {1: 4, 2: 4, 3: 2}[step]
        assert recipe["training"]["learning_rate"] == (1e-3 if step == 1 else 5e-4)
        assert recipe["continual"] is None
        prediction = load(whole / f"step_{step}", device="cpu").predict(data / "images" / "01.png")
        assert prediction.labels.shape == (tiny_continual.SIZE, tiny_continual.SIZE)


def test_scores_are_of_seen_classes_on_images_that_show_one(whole):
    """After step 1 seven of ten images show sky or road; after step 3 all do, and all five classes have a score."""
    found = [StepScores.read(whole / f"step_{step}") for step in (1, 2, 3)]
    assert [scores.num_images["same"] for scores in found] == [7, 10, 10]
    measured = [[value == value for value in scores.scores["same"]["miou"]] for scores in found]
    assert measured == [[True] * 2 + [False] * 3, [True] * 4 + [False], [True] * 5]
    content = json.loads((whole / "continual.json").read_text())
    assert [step["classes"] for step in content["split"]] == [["sky", "road"], ["car", "tree"], ["sign"]]
    assert len(content["steps"]) == 3
    page = (whole / "continual.html").read_text()
    assert page.count("after step 3") >= 3
    assert "<svg" in page


@pytest.mark.parametrize("calls", [6, 14, 21])
def test_a_killed_run_resumes_inside_its_step_to_the_same_weights(whole, data, tmp_path, calls):
    """Killed while step 1 trains, while step 2 trains, and later; the models are those of the run never stopped."""
    recipe = tiny_continual.write_recipe(tmp_path / "recipe.yaml", tiny_continual.recipe(data))
    out = tmp_path / "run"
    paths = f"Path({str(recipe)!r}), Path({str(out)!r})"
    code = f"import tiny_continual; from pathlib import Path; tiny_continual.run_and_die({paths}, {calls})"
    folder = Path(tiny_continual.__file__).parent
    died = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=folder, capture_output=True)
    assert died.returncode == -9, died.stderr.decode()
    assert not (out / "step_3" / "scores.json").exists()
    table = tiny_continual.run(tiny_continual.recipe(data), out, resume=True)
    assert len(table.steps) == 3
    for step in (1, 2, 3):
        assert same_models(whole / f"step_{step}", out / f"step_{step}")
        kept = [json.loads((folder / f"step_{step}" / "scores.json").read_text()) for folder in (whole, out)]
        assert kept[0] == kept[1]


def test_steps_can_be_trained_one_call_after_another(whole, data, tmp_path):
    content = tiny_continual.recipe(data)
    with pytest.raises(CheckpointError, match=r"Step 2 goes on from step 1, but .* holds no complete run"):
        tiny_continual.run(content, tmp_path / "run", steps=(2, 3))
    assert len(tiny_continual.run(content, tmp_path / "run", steps=(1, 1)).steps) == 1
    assert len(tiny_continual.run(content, tmp_path / "run", steps=(2, 3)).steps) == 3
    assert same_models(whole / "step_3", tmp_path / "run" / "step_3")


def test_a_run_of_another_arm_can_be_the_first_step(whole, data, tmp_path):
    content = tiny_continual.recipe(data, continual__steps_per_class=1)
    table = tiny_continual.run(content, tmp_path / "run", first_step=whole / "step_1", steps=(2, 2))
    assert same_models(whole / "step_1", tmp_path / "run" / "step_1")
    assert not same_models(whole / "step_2", tmp_path / "run" / "step_2")
    assert table.steps[0].scores == StepScores.read(whole / "step_1").scores
    wide = tiny_continual.recipe(data, model__queries={"class_path": "queryseg.queries.LearnableQueries"})
    with pytest.raises(CheckpointError, match=r"step_1/model.safetensors holds another architecture: queries.content"):
        tiny_continual.run(wide, tmp_path / "wide", first_step=whole / "step_1")


def test_joint_training_is_measured_in_the_same_groups(data, tmp_path):
    table = tiny_continual.run(tiny_continual.recipe(data, continual__joint=True), tmp_path / "run")
    assert [scores.step for scores in table.steps] == [1]
    groups = table.group_scores(table.steps[0], "same", "miou")
    assert all(value == value for value in groups.values())
    train = open_data(read_run_recipe(tmp_path / "run" / "step_1")["data"]["train"])
    assert len(train) == 10
    assert set(train[0].label_map.unique().tolist()) == {0, 1, 255}
    found = objectness_over_steps({"joint": tmp_path / "run"}, {"same": train}, lambda _: Protocol())
    (of_step,) = found.to_json()["runs"]["joint"]["steps"].values()
    classes = of_step["same"]["classes"]
    means = {group: sum(classes[name] for name in names) / len(names) for group, names in JOINT.items()}
    assert of_step["same"]["groups"] == pytest.approx(means)


# ───────────────────────────── protocols ─────────────────────────────


def training_labels(folder: Path) -> dict[str, list[int]]:
    train = open_data(read_run_recipe(folder)["data"]["train"])
    return {train[i].name: train[i].label_map.unique().tolist() for i in range(len(train))}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": "disjoint"}, {"02": [2, 255], "03": [3, 255], "12": [2, 255], "13": [3, 255], "23": [2, 3, 255]}),
        (
            {"protocol": "sequential"},
            {"02": [0, 2, 255], "03": [0, 3, 255], "12": [1, 2, 255], "13": [1, 3, 255], "23": [2, 3, 255]},
        ),
        (
            {"label_upper_bound": "leaky"},
            {"02": [2, 255], "03": [3, 255], "12": [2, 255], "13": [3, 255], "23": [2, 3, 255], "24": [2, 4, 255],
             "34": [3, 4, 255]},
        ),
    ],
)  # fmt: skip
def test_protocols_say_which_images_and_labels_the_second_step_sees(data, tmp_path, changes, expected):
    """Images are named after their two classes; step 2 learns 2 and 3."""
    content = tiny_continual.recipe(data, **{f"continual__{key}": value for key, value in changes.items()})
    content["training"]["steps"] = content["continual"]["steps_per_class"] = 1
    tiny_continual.run(content, tmp_path / "run", steps=(1, 1))
    tiny_continual.run(content, tmp_path / "run", steps=(2, 2))
    assert training_labels(tmp_path / "run" / "step_2") == expected


# ───────────────────────────── refused ─────────────────────────────


def test_a_folder_with_a_run_is_not_overwritten(whole, data):
    with pytest.raises(InputError, match="already holds step 1; continue it with --resume"):
        tiny_continual.run(tiny_continual.recipe(data), whole)
    with pytest.raises(CheckpointError, match=r"changed recipe: data\.train\.containing was \[0, 1\] and is now"):
        tiny_continual.run(tiny_continual.recipe(data, continual__order=[4, 3, 2, 1, 0]), whole, resume=True)


def test_what_cannot_be_resumed(data, tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        tiny_continual.run(tiny_continual.recipe(data), tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match=r"--steps is 2\.\.4, but the recipe has the steps 1 to 3"):
        tiny_continual.run(tiny_continual.recipe(data), tmp_path / "run", steps=(2, 4))


def test_a_step_without_an_image_is_found_before_the_first_one_trains(data, tmp_path):
    """All images with sign show a class of an earlier step, so a disjoint step that brings sky last has none."""
    content = tiny_continual.recipe(data, continual__protocol="disjoint", continual__classes_per_step=[1, 4])
    with pytest.raises(RecipeError, match=r"Step 1 has no image: .*\(sky\) as the protocol 'disjoint' asks"):
        tiny_continual.run(content, tmp_path / "run")
    assert not (tmp_path / "run" / "step_1").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--continual.classes_per_step", "[2, 2]"], "adds up to 4 classes"),
        (["--order", "[sky, sky, road, car, tree]"], "'sky' is in continual.order twice"),
        (["--continual.groups", "{a: [sky]}"], "either classes_per_step"),
        (["--continual.classes_per_step", "null", "--continual.groups", "{a: [sky]}"], "in no step"),
        (["--steps", "x..3"], "'x..3' is no range; write it as 3..5"),
        (["--orders", "2..1"], "'2..1' is no range"),
        (["--orders", "0..1", "--steps", "1..2"], "--orders trains whole runs"),
        (["--until", "3"], "--fork and --until are for single runs"),
        (["--continual.objectives", "{o: queryseg.objectives.PseudoLabel}"], "has no class 'PseudoLabel'"),
        (["--continual.protocol", "overlaped"], "is given where one of"),
        (["--data.validate", "{}"], "add data.validate"),
        (["--data.train.root", "/nowhere"], "data.train: there is no folder or archive '/nowhere'; correct its root"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(data, tmp_path, capsys, options, message):
    path = tiny_continual.write_recipe(tmp_path / "recipe.yaml", tiny_continual.recipe(data))
    assert main(["train", str(path), "--out", str(tmp_path / "run"), "--accelerator", "cpu", *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_options_of_continual_recipes_are_refused_for_others(data, tmp_path, capsys):
    content = tiny_continual.recipe(data)
    del content["continual"]
    path = tiny_continual.write_recipe(tmp_path / "recipe.yaml", content)
    assert main(["train", str(path), "--out", str(tmp_path / "run"), "--steps", "2..3"]) == 2
    assert "has no section 'continual'" in capsys.readouterr().err


def test_a_sweep_of_a_continual_recipe_is_refused(data, tmp_path, capsys):
    path = tiny_continual.write_recipe(tmp_path / "recipe.yaml", tiny_continual.recipe(data))
    sweep = tiny_continual.write_recipe(tmp_path / "sweep.yaml", {"arms": [{"name": "paper"}]})
    assert main(["train", str(path), "--out", str(tmp_path / "run"), "--sweep", str(sweep)]) == 2
    assert "learns classes step by step, which a sweep does not" in capsys.readouterr().err


# ───────────────────────────── baselines ─────────────────────────────


def test_replayed_images_keep_the_labels_of_their_step(data, tmp_path):
    """Two images of memory: both of step 1 in step 2, one of each step in step 3; the bytes of their files."""
    content = tiny_continual.recipe(data, continual__replay=2)
    table = tiny_continual.run(content, tmp_path / "run")
    new = {1: 7, 2: 7, 3: 4}
    labels = {2: [{0, 1}, {0, 1}], 3: [{0, 1}, {2, 3}]}
    for step, replayed in labels.items():
        train = open_data(read_run_recipe(tmp_path / "run" / f"step_{step}")["data"]["train"])
        assert len(train) == new[step] + 2
        for place, known in enumerate(replayed, new[step]):
            assert {*train[place].label_map.unique().tolist(), 255} <= known | {255}
            assert known & set(train[place].label_map.unique().tolist())
        names = [train.sample_name(place) for place in range(new[step], len(train))]
        files = [data / folder / f"{name}.png" for name in names for folder in ("images", "labels")]
        assert table.steps[step - 2].memory == {"images": sum(file.stat().st_size for file in files)}


def test_frozen_parameters_learn_new_queries_and_class_rows_alone(data, tmp_path):
    """Step 2: what step 1 left is bit by bit the same, but for the rows of the classes of step 2."""
    sizes = {"num_queries": 5, "added": 3}
    content = tiny_continual.recipe(
        data,
        model__queries={"class_path": "queryseg.queries.StagedQueries", "init_args": {**sizes, "position": False}},
        model__decoder={
            "class_path": "queryseg.decoders.QueryInjection",
            "init_args": {
                "heads": {"class_path": "queryseg.decoders.StagedHeads", "init_args": {**sizes, "norm": False}}
            },
        },
        continual__trained=["queries", "decoder.heads.class_embed"],
    )
    tiny_continual.run(content, tmp_path / "run")
    first, second, third = (load_file(tmp_path / "run" / f"step_{step}" / MODEL) for step in (1, 2, 3))
    assert second.keys() - first.keys() == {"queries.content_stages.1"}
    assert third["queries.content_stages.2"].shape[0] == 3
    for name, value in first.items():
        if name.endswith("class_embed.weight"):
            moved = (value != second[name]).any(1).tolist()
            assert moved == [False, False, True, True, False, False]
            assert (second[name] != third[name]).any(1).tolist() == [False] * 4 + [True, False]
        elif not name.endswith("class_embed.bias"):
            assert torch.equal(value, second[name]), name
    model = load(tmp_path / "run" / "step_3", device="cpu").engine.model
    scores = model(model.normalise(torch.zeros(1, 3, 32, 32))).final.class_scores[0]
    assert scores.shape == (11, 5)
    known = scores.gt(0)
    assert not known[:5, 2:].any()
    assert not known[5:8, [0, 1, 4]].any()
    assert not known[8:, :4].any()


def test_orders_are_whole_runs_and_their_spread_is_told(data, tmp_path):
    """Two drawn orders; the same command goes on. Mean and spread are those of the two rows above."""
    content = tiny_continual.recipe(data, training__steps=1, continual__steps_per_class=1)
    path = tiny_continual.write_recipe(tmp_path / "recipe.yaml", content)
    command = ["train", str(path), "--out", str(tmp_path / "run"), "--accelerator", "cpu", "--orders"]
    assert main([*command, "1..1"]) == 0
    assert main([*command, "1..2", "--json", str(tmp_path / "table.json")]) == 0
    found = json.loads((tmp_path / "table.json").read_text())
    first, second = (found["scores"]["same"]["miou"][order][2] for order in ("1", "2"))
    spread = {key: values[2] for key, values in found["scores"]["same"]["miou"].items() if not key.isdigit()}
    assert spread["mean"] == pytest.approx((first + second) / 2)
    assert spread["standard deviation"] == pytest.approx(abs(first - second) / 2**0.5)
    assert (spread["lowest"], spread["highest"]) == (min(first, second), max(first, second))
    assert found["orders"]["1"] != found["orders"]["2"]
    assert "standard deviation" in (tmp_path / "run" / "orders.html").read_text()
    assert json.loads((tmp_path / "run" / "orders.json").read_text()) == found


# ───────────────────────────── SimCIS ─────────────────────────────


def simcis(data: Path, **changes: Any) -> dict[str, Any]:
    """Selected pixels, virtual queries, pseudo-labels and distillation at the smallest size."""

    def part(path: str, **arguments: Any) -> dict[str, Any]:
        return {"class_path": f"queryseg.{path}", "init_args": arguments}

    matcher = part("objectives.FocalHungarian", num_points=32)
    pyramid = {"pyramid": "bilinear"}
    content = tiny_continual.recipe(
        data,
        model__pixel_decoder=part("pixel_decoders.Deformable", width=16, num_layers=1, hidden=16, groups=4),
        model__queries=part("queries.PixelSelectedQueries", num_queries=6),
        model__decoder=part(
            "decoders.CrossAttention", num_layers=3, hidden=16, num_heads=2, order="self_first",
            heads="queryseg.decoders.BoxHeads",
        ),
        objectives={
            "criterion": part("objectives.FocalSetCriterion", num_points=32, matcher=matcher),
            "virtual_queries": part("objectives.VirtualQueries", num_virtual=2, length=4, matcher=matcher),
        },
        continual__objectives={
            "pseudo_labels": part("objectives.PseudoLabels", task="semantic"),
            "consistent_selection": part("objectives.ConsistentSelection"),
        },
        **changes,
    )  # fmt: skip
    content["model"]["backbone"]["init_args"] |= pyramid
    return content


@pytest.fixture(scope="module")
def simcis_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simcis") / "run"
    tiny_continual.run(simcis(data), out)
    return out


def test_simcis_hands_bank_and_distribution_from_step_to_step(simcis_run):
    """Step 2 gets the bank of step 1 and counts pseudo-labels of its classes alone; step 3 those of two steps."""
    for step, old, current in ((2, [0, 1], [2, 3]), (3, [0, 1, 2, 3], [4])):
        objectives = read_run_recipe(simcis_run / f"step_{step}")["objectives"]
        assert list(objectives) == ["pseudo_labels", "consistent_selection", "criterion", "virtual_queries"]
        arguments = objectives["virtual_queries"]["init_args"]
        assert arguments["old_classes"] == old
        assert objectives["pseudo_labels"]["init_args"]["current_classes"] == current
        assert Path(arguments["bank"]) == simcis_run / f"step_{step - 1}" / BANK_FILE
        counts = json.loads(Path(arguments["distribution"]).read_text())["pseudo_labels"]
        assert list(counts) == tiny_continual.CLASSES
    for step in (1, 2, 3):
        size = (simcis_run / f"step_{step}" / BANK_FILE).stat().st_size
        assert StepScores.read(simcis_run / f"step_{step}").memory == {"virtual queries": size}


def test_earlier_classes_without_pseudo_labels_are_told(data, simcis_run, tmp_path):
    """Nothing is as sure as the threshold asks, so the second step has nothing of the first."""
    content, said = simcis(data), StringIO()
    content["continual"]["objectives"]["pseudo_labels"]["init_args"]["threshold"] = 0.9999
    options = {"steps": (2, 2), "first_step": simcis_run / "step_1"}
    tiny_continual.run(content, tmp_path / "run", console=Console(file=said, width=300), **options)
    assert "It finds none of sky, road: where these images" in said.getvalue()
    assert "A lower threshold or overlap of pseudo_labels finds more." in said.getvalue()


@pytest.mark.parametrize(("calls", "file"), [(17, None), (1, BANK_FILE)])
def test_simcis_killed_in_its_second_step_goes_on_to_the_same_weights(simcis_run, data, tmp_path, calls, file):
    """Killed amid training, the bank comes back from the checkpoint, and pseudo-labels are not counted again; killed
    while the second step's bank is saved, it is saved again, and no half of it stays."""
    recipe = tiny_continual.write_recipe(tmp_path / "recipe.yaml", simcis(data))
    out = tmp_path / "run"
    paths = f"Path({str(recipe)!r}), Path({str(out)!r})"
    code = f"import tiny_continual; from pathlib import Path; tiny_continual.run_and_die({paths}, {calls}, {file!r})"
    folder = Path(tiny_continual.__file__).parent
    died = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=folder, capture_output=True)
    assert died.returncode == -9, died.stderr.decode()
    assert (out / "step_1" / "scores.json").exists()
    assert (out / "step_2").exists()
    assert not (out / "step_2" / BANK_FILE).exists()
    assert not (out / "step_3").exists()
    tiny_continual.run(simcis(data), out, resume=True)
    for step in (1, 2, 3):
        assert same_models(simcis_run / f"step_{step}", out / f"step_{step}")
        banks = [load_file(run / f"step_{step}" / BANK_FILE) for run in (simcis_run, out)]
        assert all(torch.equal(value, banks[1][name]) for name, value in banks[0].items())
        assert not list((out / f"step_{step}").glob(".*"))


def test_two_processes_train_all_steps(data, tmp_path):
    """Both go through all steps together and fill one bank, with as many queries of each class as one process finds in
    the same images; the first one measures."""
    content = simcis(data)
    recipe = tiny_continual.write_recipe(tmp_path / "recipe.yaml", content)
    command = [sys.executable, tiny_continual.__file__, str(recipe), str(tmp_path / "two"), "2"]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    content["training"]["batch_size"] *= 2
    tiny_continual.run(content, tmp_path / "one", steps=(1, 1))
    assert [(tmp_path / "two" / f"step_{step}" / "scores.json").exists() for step in (1, 2, 3)] == [True] * 3
    one, two = (load_file(tmp_path / name / "step_1" / BANK_FILE) for name in ("one", "two"))
    assert one["counts"].tolist() == two["counts"].tolist()


def test_objectness_over_the_steps_of_runs_side_by_side(whole, simcis_run, data, tmp_path, capsys):
    """Of old classes there are none after step 1; each step's model is asked, and its own classes are grouped."""
    file = tiny_continual.write_recipe(tmp_path / "same.yaml", tiny_continual.recipe(data)["data"]["train"])
    command = ["diagnose", str(whole), str(simcis_run), "--data", str(file), "--device", "cpu", "--workers", "0"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "objectness.html" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "objectness.json").read_text())
    assert list(found["runs"]) == [str(whole), str(simcis_run)]
    for run in found["runs"].values():
        assert run["split"] == [["sky", "road"], ["car", "tree"], ["sign"]]
        assert list(run["steps"]) == ["1", "2", "3"]
        for step, old in (("1", []), ("2", ["sky", "road"]), ("3", ["sky", "road", "car", "tree"])):
            of_step = run["steps"][step]["same"]
            classes = of_step["classes"]
            assert all(0 <= value <= 1 for value in classes.values())
            means = {"base": ["sky", "road"], "old": old}
            for group, names in means.items():
                expected = sum(classes[name] for name in names) / len(names) if names else None
                assert of_step["groups"][group] == pytest.approx(expected)
    assert (tmp_path / "out" / "objectness.html").read_text().count("<svg") == 2
    out = ["--out", str(tmp_path / "no")]
    for arguments, message in (
        ([str(whole / "step_1"), *command[1:]], "is no continual run and others are"),
        ([*command[1:], "--queries", "1"], "asked for objectness alone"),
        ([*command[1:], "--num-images", "-1"], "look at 1 at least"),
    ):
        assert main(["diagnose", *arguments, *out]) == 2
        assert message in capsys.readouterr().err


def test_a_bank_that_does_not_fit_is_refused(simcis_run, data, tmp_path):
    """Another length per class would change what is replayed; no bank at all would replay nothing."""
    first = tmp_path / "first"
    shutil.copytree(simcis_run / "step_1", first)
    QueryBank(5, 4, 24).write(first / BANK_FILE, tiny_continual.CLASSES)
    with pytest.raises(CheckpointError, match=r"queries of width 24, but this model's are 16 wide"):
        tiny_continual.run(simcis(data), tmp_path / "narrow", first_step=first)
    (first / BANK_FILE).unlink()
    with pytest.raises(QuerysegError, match=r"virtual_queries\.safetensors"):
        tiny_continual.run(simcis(data), tmp_path / "run", first_step=first)
    wide = simcis(data)
    wide["model"]["pixel_decoder"]["init_args"]["width"] = 24
    wide["model"]["decoder"]["init_args"]["num_heads"] = 2
    with pytest.raises(CheckpointError, match="another architecture"):
        tiny_continual.run(wide, tmp_path / "wide", first_step=simcis_run / "step_1")
