"""Arms and seeds of one recipe: what a sweep file may say, what is skipped and resumed, what the table tells."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from queryseg.cli.main import main
from queryseg.data.protocol import Protocol
from queryseg.data.streets import Streets
from queryseg.data.writer import write_cityscapes
from queryseg.errors import CheckpointError, QuerysegError, RecipeError
from queryseg.objectives import SetCriterion
from queryseg.training import sweep as sweep_module
from queryseg.training import trainer
from queryseg.training.guard import DivergenceError
from queryseg.training.interruption import TrainingInterrupted
from queryseg.training.sweep import SweepRun, read_sweep, train_sweep
from queryseg.training.sweep_table import SeedMean, SweepTable

SIZE = {"embed_dim": 32, "depth": 3, "num_heads": 2}
ARMS: list[dict[str, Any]] = [{"name": "plain"}, {"name": "few", "overrides": {"model.queries.num_queries": 3}}]


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("streets")
    return {d: write_cityscapes(Streets(d, 3, 0, (32, 64)), root / d, "train") for d in ("clear", "fog", "night")}


@pytest.fixture(scope="module")
def recipe(streets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of a tiny QPrompt on clear streets, validated on fog and night, too."""
    backbone = {"name": "vit_tiny_patch16_224", "image_size": 32, "options": SIZE}
    content = {
        "classes": "cityscapes",
        "model": {
            "backbone": {"class_path": "queryseg.backbones.PlainViT", "init_args": backbone},
            "pixel_decoder": "queryseg.pixel_decoders.Identity",
            "queries": {"class_path": "queryseg.queries.LearnableQueries", "init_args": {"num_queries": 6}},
            "decoder": "queryseg.decoders.QueryInjection",
            "readout": "queryseg.readouts.Mixture",
        },
        "objectives": {
            "criterion": {"class_path": "queryseg.objectives.SetCriterion", "init_args": {"num_points": 64}}
        },
        "data": {
            "train": str(streets["clear"]), "validate": {name: str(path) for name, path in streets.items()},
            "crop": [32, 32], "short_sides": [32], "num_workers": 0,
        },
        "training": {"steps": 3, "batch_size": 2, "log_every": 1, "clip_norm": 1.0, "learning_rate": 1e-3},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a complete sweep: ARMS with two seeds."""
    out = tmp_path_factory.mktemp("whole")
    run(recipe, written(out, arms=ARMS, seeds=[0, 1]), out)
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(whole, tmp_path / "copied")


def written(folder: Path, **content: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(recipe: Path, file: Path, out: Path, overrides: Sequence[str] = ()) -> SweepTable:
    sweep = read_sweep(file)
    runs = sweep.plan(recipe, overrides, out)
    return train_sweep(sweep, runs, out, accelerator="cpu", console=Console(quiet=True))


def stop_in(monkeypatch: pytest.MonkeyPatch, folder: str, step: int) -> None:
    """Ctrl-C while a step of the run in `folder` is taken."""
    original = trainer.Trainer.optimise

    def optimise(self: Any, *arguments: Any) -> bool:
        if self.out.as_posix().endswith(folder) and self.step == step:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "optimise", optimise)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "sweep.csv", newline="") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


def scores(out: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Arm → seed → validation set → mIoU"""
    return {arm: entry["runs"] for arm, entry in json.loads((out / "sweep.json").read_text())["arms"].items()}


def test_the_same_call_continues_an_interrupted_sweep(
    recipe: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, file = tmp_path / "parts", whole / "sweep.yaml"
    with monkeypatch.context() as patch:
        stop_in(patch, "few/seed_0", step=1)
        with pytest.raises(TrainingInterrupted, match=r"stopped in arm few, seed 0; continue with the same command"):
            run(recipe, file, out)
    assert {name: row["runs"] for name, row in rows(out).items()} == {"plain": "1", "few": "0"}
    assert float(rows(out)["plain"]["miou/fog"]) == scores(whole)["plain"]["0"]["fog"]
    assert rows(out)["few"]["miou/fog"] == ""
    done = (out / "plain" / "seed_0" / "model.safetensors").stat().st_mtime_ns

    run(recipe, file, out)
    assert (out / "plain" / "seed_0" / "model.safetensors").stat().st_mtime_ns == done
    metrics = [(folder / "few/seed_0/metrics.csv").read_text().splitlines() for folder in (out, whole)]
    assert [line.split(",")[:3] for line in metrics[0]] == [line.split(",")[:3] for line in metrics[1]]
    for name in ("sweep.csv", "sweep.json"):
        assert (out / name).read_text() == (whole / name).read_text()

    monkeypatch.setattr(sweep_module, "train", lambda *a, **k: pytest.fail("a complete run was trained again"))
    assert run(recipe, file, out).scores["few"].keys() == {0, 1}


def test_tables_tell_means_over_seeds_and_unseen_sets(whole: Path) -> None:
    row, content = rows(whole)["few"], json.loads((whole / "sweep.json").read_text())
    found = [scores(whole)["few"][seed] for seed in ("0", "1")]
    assert found[0] != found[1]  # another seed is another run
    assert float(row["miou/clear"]) == pytest.approx((found[0]["clear"] + found[1]["clear"]) / 2)
    by_run = [(run["fog"] + run["night"]) / 2 for run in found]
    assert float(row["mean_unseen"]) == pytest.approx(sum(by_run) / 2)
    # t of one degree of freedom at 97.5 %: 12.7062; the standard error of two values is half their distance
    assert float(row["mean_unseen/half_width"]) == pytest.approx(12.7062 * abs(by_run[0] - by_run[1]) / 2, rel=1e-4)
    assert content["unseen"] == ["fog", "night"]
    assert content["arms"]["few"]["overrides"] == {"model.queries.num_queries": 3}
    assert content["arms"]["few"]["mean_iou_unseen"]["mean"] == float(row["mean_unseen"])
    recipes = [yaml.safe_load((whole / arm / "seed_1" / "recipe.yaml").read_text()) for arm in ("plain", "few")]
    assert [r["model"]["queries"]["init_args"]["num_queries"] for r in recipes] == [6, 3]
    assert [r["seed"] for r in recipes] == [1, 1]


def test_the_interval_is_students() -> None:
    mean = SeedMean.of([0.5, 0.6, 0.7])
    assert mean.mean == pytest.approx(0.6)
    assert mean.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)
    assert str(mean) == "60.0 ± 24.8"
    assert str(SeedMean.of([0.5])) == "50.0"
    assert str(SeedMean.of([])) == "–"
    # sets that move against each other: their mean does not depend on the seed
    scores = {"a": {0: {"x": 0.1, "y": 0.5, "z": 0.6}, 1: {"x": 0.2, "y": 0.6, "z": 0.5}}}
    table = SweepTable({"a": {}}, scores, ["x", "y", "z"], ["x"], [0, 1], Protocol())
    assert table.on_unseen("a").mean == pytest.approx(0.55)
    assert table.on_unseen("a").half_width == pytest.approx(0, abs=1e-12)
    assert table.on("a", "y").half_width == pytest.approx(12.7062 * 0.05, rel=1e-4)


def test_many_validation_sets_are_printed_by_their_mean(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"corruption{i}" for i in range(16)]
    scores = {"a": {0: {name: i / 16 for i, name in enumerate(names)}}}
    console = Console(width=80)
    console.print(SweepTable({"a": {}}, scores, names, names[:1], [0], Protocol(512)))
    console.print(SweepTable({"a": {}, "b": {}}, {**scores, "b": {}}, names[:3], [], [0, 1], Protocol(512)))
    wide, narrow = capsys.readouterr().out.split("short side 512")[:2]
    assert "corruption0" in wide
    assert "corruption1" not in wide
    assert "50.0" in wide  # mean of 1/16 … 15/16
    assert all(text in narrow for text in ("corruption2", "1/2", "0/2", "12.5", "–"))


def test_seeds_are_the_recipes_own_if_none_are_given(recipe: Path, tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, arms=ARMS, seen=[]))
    runs = sweep.plan(recipe, ["--seed", "7", "--training.steps", "5"], tmp_path)
    assert [r.folder.relative_to(tmp_path).as_posix() for r in runs] == ["plain/seed_7", "few/seed_7"]
    assert {r.recipe["training"]["steps"] for r in runs} == {5}
    assert sweep.table(runs).unseen == ["clear", "fog", "night"]


def test_the_first_seed_of_all_arms_comes_first(recipe: Path, tmp_path: Path) -> None:
    runs = read_sweep(written(tmp_path, arms=ARMS, seeds=[3, 1])).plan(recipe, [], tmp_path)
    assert [(r.arm, r.seed) for r in runs] == [("plain", 3), ("few", 3), ("plain", 1), ("few", 1)]


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    grid = {"training.learning_rate": [1e-4, 0.001], "data.crop": [[32, 64]], "data.flip": [0, 0.5]}
    arms = read_sweep(written(tmp_path, arms=[{"name": "plain"}], grid=grid)).arms
    assert [arm.name for arm in arms] == [
        "plain",
        "learning_rate_0.0001-crop_32_64-flip_0",
        "learning_rate_0.0001-crop_32_64-flip_0.5",
        "learning_rate_0.001-crop_32_64-flip_0",
        "learning_rate_0.001-crop_32_64-flip_0.5",
    ]
    assert arms[3].overrides == {"data.crop": [32, 64], "data.flip": 0, "training.learning_rate": 0.001}


def test_an_override_may_replace_a_group_and_shares_nothing_between_arms(recipe: Path, tmp_path: Path) -> None:
    criterion = {"criterion": {"class_path": "queryseg.objectives.SetCriterion"}}
    arms = [
        {"name": "default", "overrides": {"objectives": criterion}},
        {"name": "other", "overrides": {"objectives": criterion, "objectives.criterion.num_points": 32}},
    ]
    runs = read_sweep(written(tmp_path, arms=arms)).plan(recipe, [], tmp_path)
    points = [r.recipe["objectives"]["criterion"]["init_args"]["num_points"] for r in runs]
    assert points == [12544, 32]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "holds no settings|has no arms"),
        ({"arms": []}, "has no arms"),
        ({"arms": ARMS, "sedes": [1]}, r"has no option 'sedes'. Did you mean 'seeds'\?"),
        ({"arms": {"a": {}}}, "has arms: .* but needs a list"),
        ({"arms": ["a"]}, "has the arm 'a'; write it as"),
        ({"arms": [{"name": "a", "overides": {}}]}, r"no option 'overides'. Did you mean 'overrides'\?"),
        ({"arms": [{"overrides": {}}]}, "whose name is None"),
        ({"arms": [{"name": 0.1}]}, "whose name is 0.1; .* quotes"),
        ({"arms": [{"name": "../a"}]}, "whose name is '../a'"),
        ({"arms": [{"name": "sweep.csv"}]}, "whose name is 'sweep.csv'"),
        ({"arms": [*ARMS, {"name": "few"}]}, "names the arm 'few' twice"),
        ({"arms": [{"name": "a", "overrides": ["x=1"]}]}, r"has overrides \['x=1'\]; give a mapping"),
        ({"arms": [{"name": "a", "overrides": {"seed": 1}}]}, "overrides the seed"),
        ({"arms": ARMS, "seeds": 3}, "has seeds: 3, but needs a list"),
        ({"arms": ARMS, "seeds": []}, r"has seeds: \[\]; give different whole numbers"),
        ({"arms": ARMS, "seeds": [0, 0]}, "different whole numbers"),
        ({"arms": ARMS, "seeds": ["a"]}, "different whole numbers"),
        ({"arms": ARMS, "seeds": [[0]]}, "different whole numbers"),
        ({"grid": {"training.steps": 3}}, "give a mapping from keys to lists"),
        ({"grid": {"training.steps": []}}, "give a mapping from keys to lists"),
        ({"grid": {}}, "give a mapping from keys to lists"),
        ({"grid": [1]}, "give a mapping from keys to lists"),
        ({"grid": {"training.steps": [3, 3]}}, "names the arm 'steps_3' twice"),
        ({"arms": ARMS, "seen": "clear"}, "has seen: 'clear', but needs a list"),
        ({"arms": ARMS, "seen": ["claer"]}, r"'seen' names 'claer'.* Did you mean 'clear'\?"),
        (
            {"arms": [*ARMS, {"name": "bad", "overrides": {"model.queries.num_querys": 3}}]},
            r"Arm 'bad': .* no option 'num_querys'. Did you mean 'num_queries'\?",
        ),
        ({"arms": [*ARMS, {"name": "bad", "overrides": {"training.steps": "x"}}]}, "Arm 'bad': .*training.steps: 'x'"),
        ({"arms": [{"name": "bad", "overrides": {"training.warmup": 2}}]}, "Arm 'bad': training.warmup is 2"),
        (
            {"arms": [{"name": "bad", "overrides": {"objectives.pixel": "queryseg.objectives.PixelCrossEntropy"}}]},
            "Arm 'bad': .*requires",
        ),
        (
            {"arms": [*ARMS, {"name": "same", "overrides": {"model.queries.num_queries": 6}}]},
            "Arms 'plain' and 'same' are the same recipe",
        ),
        (
            {"arms": [*ARMS, {"name": "other", "overrides": {"data.protocol.short_side": 16}}]},
            "Arms 'plain' and 'other' are validated on other data or by another protocol",
        ),
        ({"arms": [{"name": "none", "overrides": {"data.validate": {}}}]}, "the recipe validates nothing"),
    ],
)
def test_what_is_wrong_is_said_before_anything_trains(
    content: dict[str, Any], sentence: str, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(QuerysegError, match=sentence) as caught:
        run(recipe, written(tmp_path, **content), out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no sweep"):
        read_sweep(tmp_path / "nothing.yaml")
    path = tmp_path / "sweep.yaml"
    for text, sentence in (("- a\n- b", "holds no settings"), ("a: [", "is not valid YAML"), ("", "holds no settings")):
        path.write_text(text)
        with pytest.raises(RecipeError, match=sentence):
            read_sweep(path)


def test_a_changed_sweep_does_not_mix_with_what_was_trained(recipe: Path, copied: Path, tmp_path: Path) -> None:
    changed = [{"name": "plain", "overrides": {"model.queries.num_queries": 4}}]
    with pytest.raises(CheckpointError, match=r"Arm 'plain', seed 0: .*num_queries was 6 and is now 4"):
        run(recipe, written(tmp_path, arms=changed), copied)
    file = written(tmp_path, arms=ARMS)
    with pytest.raises(CheckpointError, match=r"seed 0: .*validated on clear, fog, night \(native size, whole image\)"):
        run(recipe, file, copied, ["--data.protocol.short_side", "16"])
    (copied / "few" / "seed_0" / "result.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"Arm 'few', seed 0: .*result.json is damaged; delete it"):
        run(recipe, file, copied)


def test_a_lost_result_is_told_by_the_checkpoint(recipe: Path, copied: Path, whole: Path) -> None:
    (copied / "few" / "seed_1" / "result.json").unlink()
    run(recipe, copied / "sweep.yaml", copied)
    assert scores(copied) == scores(whole)


def test_one_run_that_diverges_does_not_stop_the_others(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, arms=[ARMS[1], ARMS[0]])
    real = SetCriterion.losses

    def losses(self: Any, output: Any, *arguments: Any) -> Any:
        found = real(self, output, *arguments)
        return {k: v * float("nan") for k, v in found.items()} if output.final.content.shape[1] == 3 else found

    with monkeypatch.context() as patch:
        patch.setattr(SetCriterion, "losses", losses)
        with pytest.raises(DivergenceError, match=r"1 of 2 runs diverged \(arm few, seed 0\)"):
            run(recipe, file, tmp_path)
    assert {name: row["runs"] for name, row in rows(tmp_path).items()} == {"few": "0", "plain": "1"}
    assert {name: len(s) for name, s in run(recipe, file, tmp_path).scores.items()} == {"few": 1, "plain": 1}


def test_command_line(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out, table = written(tmp_path, arms=ARMS), tmp_path / "out", tmp_path / "table.json"
    words = ["train", str(recipe), "--out", str(out), "--sweep", str(file), "--accelerator", "cpu"]
    words += ["--json", str(table), "--training.steps", "2"]
    assert main([*words, "--resume"]) == 2
    assert "--sweep trains whole runs on one device and resumes by itself" in capsys.readouterr().err
    assert not out.exists()
    with monkeypatch.context() as patch:
        stop_in(patch, "few/seed_0", step=0)
        assert main(words) == 130
    printed = capsys.readouterr()
    assert "continue with the same command" in printed.err
    assert "plain" in printed.out
    assert "1/1" in printed.out
    assert json.loads(table.read_text())["arms"]["few"]["runs"] == {}
    assert main(words) == 0
    assert json.loads(table.read_text()) == json.loads((out / "sweep.json").read_text())
    assert set(json.loads(table.read_text())["arms"]["few"]["runs"]["0"]) == {"clear", "fog", "night"}


def test_a_fresh_run_may_start_from_weights(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, object]] = []

    class Enough(Exception):
        pass

    def record(recipe: Any, resolved: Any, out: Path, resume: bool, start_from: object, **_: Any) -> None:
        seen.append((resume, start_from))
        raise Enough

    sweep = read_sweep(written(tmp_path, arms=ARMS))
    runs: list[SweepRun] = sweep.plan(recipe, [], tmp_path / "out")
    monkeypatch.setattr(sweep_module, "train", record)
    for _ in range(2):
        with pytest.raises(Enough):
            train_sweep(sweep, runs, tmp_path / "out", "runs/qprompt", console=Console(quiet=True))
        (tmp_path / "out" / "plain" / "seed_0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / "plain" / "seed_0" / "last.ckpt").touch()
    assert seen == [(False, "runs/qprompt"), (True, None)]
