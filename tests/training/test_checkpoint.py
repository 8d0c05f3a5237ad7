from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from queryseg.errors import CheckpointError
from queryseg.training.checkpoint import (
    canonical,
    check_same_data,
    check_same_recipe,
    read_checkpoint,
    write_checkpoint,
)

STATE = {"step": 3, "model": {"weight": torch.arange(5.0)}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.ckpt"


def test_round_trip(path: Path) -> None:
    write_checkpoint(path, STATE)
    state = read_checkpoint(path)
    assert state["step"] == 3
    assert torch.equal(state["model"]["weight"], torch.arange(5.0))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("limit", [0, 10_000, 300_000])
def test_disk_full(limit: int, path: Path) -> None:
    """At the start, in the middle and near the end of a file: torch raises different errors then."""
    resource = pytest.importorskip("resource")
    write_checkpoint(path, STATE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(CheckpointError) as error:
            write_checkpoint(path, {"step": 4, "weights": {str(i): torch.rand(10_000) for i in range(8)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value) == (
        f"{path} could not be saved (File too large); free some space and continue with --resume. "
        "The checkpoint before it is kept."
    )
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert read_checkpoint(path)["step"] == 3


def test_what_cannot_be_saved_at_all_is_no_matter_of_space(path: Path) -> None:
    with pytest.raises(AttributeError, match="local"):
        write_checkpoint(path, {"function": lambda: None})


def test_missing(path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated(share: float, path: Path) -> None:
    write_checkpoint(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="damaged or no checkpoint") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04 not a zip", b"\x80\x02}q\x00.", bytes(range(256)) * 9])
def test_another_file(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged or no checkpoint|no checkpoint of this version"):
        read_checkpoint(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("zipped", [True, False])
def test_never_executes_code(zipped: bool, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    if zipped:
        torch.save({"format": 1, "evil": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not Path("executed").exists()


RECIPE: dict[str, Any] = {
    "data": {"train": {"root": "a"}, "root": None, "crop": (32, 32), "num_workers": 2},
    "training": {"steps": 6, "save_every": 2},
    "objectives": {"set": {"class_path": "SetCriterion", "init_args": {"num_points": 5}}},
}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "num_workers", 8),
        ("data", "root", "/elsewhere"),
        ("training", "save_every", 9),
        ("data", "crop", [32, 32]),
    ],
)
def test_harmless_changes(section: str, key: str, value: Any, path: Path) -> None:
    changed = {**RECIPE, section: {**RECIPE[section], key: value}}
    check_same_recipe(path, canonical(RECIPE), canonical(changed))


def test_a_changed_key_is_named(path: Path) -> None:
    changed = {**RECIPE, "training": {"steps": 8, "save_every": 1}}
    with pytest.raises(CheckpointError, match=r"training\.steps was 6 and is now 8"):
        check_same_recipe(path, canonical(RECIPE), canonical(changed))
    with pytest.raises(CheckpointError, match=r'objectives\.set\.class_path was "SetCriterion" and is now not there'):
        check_same_recipe(path, canonical(RECIPE), canonical({**RECIPE, "objectives": {}}))
    with pytest.raises(CheckpointError, match=r"seed was not there and is now 1"):
        check_same_recipe(path, canonical(RECIPE), canonical({**RECIPE, "seed": 1}))


def test_other_images(path: Path) -> None:
    then = {"images": 7, "names": "abc", "processes": 1}
    check_same_data(path, then, dict(then))
    with pytest.raises(CheckpointError, match=r"learned from 7 images in 1 process\(es\) and now there are 6 in 1"):
        check_same_data(path, then, {**then, "images": 6})
