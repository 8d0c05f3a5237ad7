from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from queryseg.training import trainer
from queryseg.training.checkpoint import read_checkpoint
from queryseg.training.interruption import TrainingInterrupted
from queryseg.training.meter import PACE


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Bit for bit, through nested states."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def metrics(folder: Path) -> list[dict[str, str]]:
    """Rows without the columns that depend on the machine."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in PACE} for row in csv.DictReader(file)]


def assert_same_runs(a: Path, b: Path) -> None:
    one, two = read_checkpoint(a / "last.ckpt"), read_checkpoint(b / "last.ckpt")
    for state in (one, two):
        state.pop("recipe")  # the number of loader processes may differ
    assert_same(one, two)
    assert_same(load_file(a / "model.safetensors"), load_file(b / "model.safetensors"))
    assert metrics(a) == metrics(b)
    names = [sorted(p.name for p in (folder / "pictures").iterdir()) for folder in (a, b)]
    assert names[0] == names[1]


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("uninterrupted")
    tiny_run.run(tiny_run.settings(data), out)
    return out


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ctrl-C while step number `steps` runs."""
    original = trainer.Trainer.optimise

    def optimise(self: Any, *arguments: Any) -> bool:
        if self.step == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "optimise", optimise)


class Stopped(Exception):
    pass


def crash_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    original = trainer.Trainer.optimise

    def optimise(self: Any, *arguments: Any) -> bool:
        if self.step == steps:
            raise Stopped
        return original(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "optimise", optimise)


def test_run_folder(uninterrupted: Path) -> None:
    names = {path.name for path in uninterrupted.iterdir()}
    assert {"recipe.yaml", "model.safetensors", "last.ckpt", "metrics.csv", "pictures"} <= names
    assert any(name.startswith("events.out") for name in names)
    assert not any(name.endswith(".part") for name in names)
    rows = metrics(uninterrupted)
    assert [row["step"] for row in rows] == ["3", "5", "6"]
    assert [bool(row["miou/same"]) for row in rows] == [True, False, True]
    assert [bool(row["stay/distance"]) for row in rows] == [False, True, True]
    assert {path.name for path in (uninterrupted / "pictures").iterdir()} == {"step_000003.png", "step_000006.png"}


def test_the_saved_model_is_the_moving_average(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    saved, state = load_file(uninterrupted / "model.safetensors"), read_checkpoint(uninterrupted / "last.ckpt")
    assert all(torch.equal(saved[name], value) for name, value in state["average"].items())
    assert not torch.equal(saved["queries.content"], state["model"]["queries.content"])
    tiny_run.run(tiny_run.settings(data, ema_decay=0.0, steps=2), tmp_path)  # forgets at once
    saved, state = load_file(tmp_path / "model.safetensors"), read_checkpoint(tmp_path / "last.ckpt")
    assert all(torch.equal(saved[name], value) for name, value in state["model"].items())


def test_the_moving_average_may_begin_late(data: Path, tmp_path: Path) -> None:
    """Until then the model is the weights; from then on it forgets them at its own pace."""
    late = {"ema_decay": 0.9, "ema_start": 0.5, "validate_every": 0}
    found = {}
    for until in (3, 4, 6):
        tiny_run.run(tiny_run.settings(data, **late), tmp_path / str(until), until=until)
        saved = load_file(tmp_path / str(until) / "model.safetensors")["queries.content"]
        found[until] = saved, read_checkpoint(tmp_path / str(until) / "last.ckpt")["model"]["queries.content"]
    assert torch.equal(*found[3])
    average, weights = found[4]
    torch.testing.assert_close(average, 0.9 * found[3][0] + 0.1 * weights, rtol=0, atol=1e-6)
    assert not torch.equal(*found[6])
    tiny_run.run(tiny_run.settings(data, **late), tmp_path / "3", resume=True)
    resumed = load_file(tmp_path / "3" / "model.safetensors")["queries.content"]
    assert torch.equal(resumed, found[6][0])


def test_annealed_weight_decay_reaches_the_optimiser(data: Path, tmp_path: Path) -> None:
    settings = tiny_run.settings(data, weight_decay=0.4, final_weight_decay=0.1, ema_decay=None, validate_every=0)
    tiny_run.run(settings, tmp_path, until=4)
    groups = read_checkpoint(tmp_path / "last.ckpt")["optimiser"]["param_groups"]
    assert {group["decays"]: group["weight_decay"] for group in groups} == {True: pytest.approx(0.25), False: 0.0}


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_crash_changes_nothing(
    steps: int, data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        crash_after(patch, steps)
        with pytest.raises(Stopped):
            tiny_run.run(tiny_run.settings(data), tmp_path)
    tiny_run.run(tiny_run.settings(data), tmp_path, resume=True)
    assert_same_runs(uninterrupted, tmp_path)


def test_interruption_saves_and_says_how_to_go_on(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(TrainingInterrupted, match=r"after step 3 of 6.*--resume"):
            tiny_run.run(tiny_run.settings(data), tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_checkpoint(tmp_path / "last.ckpt")["step"] == 3
    tiny_run.run(tiny_run.settings(data), tmp_path, resume=True)
    assert_same_runs(uninterrupted, tmp_path)


def test_loader_processes_change_nothing(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    values = tiny_run.settings(data)
    values["data"]["num_workers"] = 2
    tiny_run.run(values, tmp_path)
    assert_same_runs(uninterrupted, tmp_path)


def test_resuming_a_complete_run_gives_its_result(data: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "metrics.csv").read_bytes(), (uninterrupted / "last.ckpt").stat().st_mtime_ns
    result = tiny_run.run(tiny_run.settings(data), uninterrupted, resume=True)
    assert result.steps == 6
    assert result.mean_iou == {"same": float(metrics(uninterrupted)[-1]["miou/same"])}
    assert before == ((uninterrupted / "metrics.csv").read_bytes(), (uninterrupted / "last.ckpt").stat().st_mtime_ns)


def test_variants_resume_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No average; accumulation, bfloat16, rare-class sampling, a frozen beginning of the trunk, a frozen reference."""
    values = tiny_run.settings(data, ema_decay=None, accumulate=2, precision="bf16-mixed", clip_norm=None, save_every=4)
    values |= {"frozen": True, "objectives": ["set", "stay", "keep"]}
    values["data"] |= {"rare_class_temperature": 0.1, "rare_class_min_pixels": 10, "rare_class_crop_pixels": 20}
    tiny_run.run(values, tmp_path / "whole")
    with monkeypatch.context() as patch:
        crash_after(patch, 5)
        with pytest.raises(Stopped):
            tiny_run.run(values, tmp_path / "parts")
    tiny_run.run(values, tmp_path / "parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_looking_at_queries_changes_nothing(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "has_queries", lambda model: False)
    tiny_run.run(tiny_run.settings(data), tmp_path)
    assert_same_runs(uninterrupted, tmp_path)
    looked, unseen = (EventAccumulator(str(folder)).Reload().Tags()["scalars"] for folder in (uninterrupted, tmp_path))
    assert {tag.partition("/")[0] for tag in set(looked) - set(unseen)} == {"queries"}


# ───────────────────────────── SIGKILL ─────────────────────────────


@pytest.fixture(scope="module")
def spawn() -> Iterator[Any]:
    """Starts functions of tiny_run in processes of their own; everything is imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_run"])

    def start(function: Any, *arguments: Any) -> Any:
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the server that imports looks nowhere else
        yield start


@pytest.mark.parametrize(("function", "calls"), [("replace", 4), ("replace", 5), ("replace", 9), ("fsync", 19)])
def test_killed_while_saving(
    function: str, calls: int, spawn: Any, data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    values = tiny_run.settings(data)
    process = spawn(tiny_run.run_and_die, values, tmp_path, False, function, calls)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert any(path.name.endswith(".part") for path in tmp_path.rglob("*"))
    tiny_run.run(values, tmp_path, resume=True)
    assert_same_runs(uninterrupted, tmp_path)


def test_killed_at_random_moments(spawn: Any, data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    values, dice = tiny_run.settings(data), random.Random()
    for _ in range(4):
        process = spawn(tiny_run.run_quietly, values, tmp_path, (tmp_path / "last.ckpt").exists())
        process.join(dice.uniform(0.1, 1.5))
        process.kill()
        process.join()
    tiny_run.run(values, tmp_path, resume=(tmp_path / "last.ckpt").exists())
    assert_same_runs(uninterrupted, tmp_path)


@pytest.mark.parametrize("steps", [1, 4, 5])  # in the first stage, and in the second
def test_grqa_resumes_in_either_stage(steps: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = tiny_run.settings(data, save_every=1) | {"objectives": ["set", "grqa"]}
    tiny_run.run(values, tmp_path / "whole")
    with monkeypatch.context() as patch:
        crash_after(patch, steps)
        with pytest.raises(Stopped):
            tiny_run.run(values, tmp_path / "broken")
    state = read_checkpoint(tmp_path / "broken" / "last.ckpt")
    assert bool(state["objectives"]["grqa.initialised"].any())
    assert bool(state["references"]) == (steps > 3)
    tiny_run.run(values, tmp_path / "broken", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "broken")


def test_nothing_of_grqa_is_in_the_model(data: Path, tmp_path: Path) -> None:
    for objectives in (["set"], ["set", "grqa"]):
        tiny_run.run(tiny_run.settings(data) | {"objectives": objectives}, tmp_path / objectives[-1])
    plain, aligned = (load_file(tmp_path / name / "model.safetensors") for name in ("set", "grqa"))
    assert {name: value.shape for name, value in plain.items()} == {n: v.shape for n, v in aligned.items()}
    assert not torch.equal(plain["queries.content"], aligned["queries.content"])
    rows = metrics(tmp_path / "grqa")
    assert [bool(row["grqa/group"]) for row in rows] == [False, True, True]
    assert all(row["grqa/active_queries"] for row in rows)


@pytest.mark.parametrize("until", [2, 3])
def test_a_run_in_two_parts_equals_one(until: int, data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    result = tiny_run.run(tiny_run.settings(data), tmp_path, until=until)
    assert result.steps == read_checkpoint(tmp_path / "last.ckpt")["step"] == until
    tiny_run.run(tiny_run.settings(data), tmp_path, resume=True)
    assert_same_runs(uninterrupted, tmp_path)
