"""A run that goes on from where another one stopped, with other objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from safetensors.torch import load_file

from queryseg.errors import CheckpointError, UsageError
from queryseg.training.checkpoint import read_checkpoint


def settings(data: Path, *objectives: str) -> dict[str, Any]:
    return tiny_run.settings(data) | {"objectives": ["set", *objectives]}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def first_stage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of six steps, after which GRQA begins."""
    out = tmp_path_factory.mktemp("first_stage")
    tiny_run.run(settings(data, "grqa"), out, until=3)
    return out


def test_a_fork_equals_the_run_it_stands_for(data: Path, first_stage: Path, tmp_path: Path) -> None:
    tiny_run.run(settings(data, "grqa"), tmp_path / "whole")
    result = tiny_run.run(settings(data, "grqa"), tmp_path / "fork", fork=first_stage)
    assert result.steps == 6
    whole, fork = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "fork"))
    for part in ("model", "average", "objectives"):
        assert same(whole[part], fork[part]), part
    assert same(whole["references"]["ema"], fork["references"]["ema"])
    assert read_checkpoint(first_stage / "last.ckpt")["step"] == 3  # is left as it was


def test_arms_share_their_first_stage(data: Path, first_stage: Path, tmp_path: Path) -> None:
    """The control arm, forked without GRQA, equals a run that never had it."""
    tiny_run.run(settings(data), tmp_path / "never")
    tiny_run.run(settings(data), tmp_path / "control", fork=first_stage)
    never, control = (load_file(tmp_path / name / "model.safetensors") for name in ("never", "control"))
    assert same(never, control)
    assert read_checkpoint(tmp_path / "control" / "last.ckpt")["references"] == {}


def test_an_objective_that_was_not_there_begins_anew(
    data: Path, first_stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_run.run(settings(data, "stay"), tmp_path / "other", fork=first_stage)
    state = read_checkpoint(tmp_path / "other" / "last.ckpt")
    assert not any(name.startswith("grqa.") for name in state["objectives"])
    with (tmp_path / "other" / "metrics.csv").open() as file:
        header = file.readline()
    assert "stay/distance" in header
    assert "grqa" not in header


def test_a_fork_can_be_resumed(data: Path, first_stage: Path, tmp_path: Path) -> None:
    tiny_run.run(settings(data, "grqa"), tmp_path / "whole", fork=first_stage)
    tiny_run.run(settings(data, "grqa"), tmp_path / "parts", fork=first_stage, until=4)
    tiny_run.run(settings(data, "grqa"), tmp_path / "parts", resume=True)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert same(whole, parts)


def test_only_objectives_may_differ(data: Path, first_stage: Path, tmp_path: Path) -> None:
    values = settings(data, "grqa")
    values["training"]["learning_rate"] = 2e-3
    with pytest.raises(CheckpointError, match=r"cannot be forked with a changed recipe: training.learning_rate was"):
        tiny_run.run(values, tmp_path / "out", fork=first_stage)


def test_a_complete_run_has_nothing_to_fork(data: Path, tmp_path: Path) -> None:
    tiny_run.run(settings(data), tmp_path / "whole")
    with pytest.raises(CheckpointError, match=r"is a complete run; fork one that stopped before"):
        tiny_run.run(settings(data), tmp_path / "out", fork=tmp_path / "whole")


@pytest.mark.parametrize("until", [0, 7])
def test_the_end_must_be_a_step_of_the_run(until: int, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--until is {until}, but must be a step of the run, from 1 to 6"):
        tiny_run.run(settings(data), tmp_path / "out", until=until)
    assert not (tmp_path / "out").exists()


def test_a_run_begins_in_one_way(data: Path, first_stage: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given are --start-from and --fork; give one of them"):
        tiny_run.run(settings(data), tmp_path / "out", fork=first_stage, start_from=first_stage)


def test_a_fork_needs_a_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        tiny_run.run(settings(data), tmp_path / "out", fork=tmp_path)
    assert not (tmp_path / "out").exists()
