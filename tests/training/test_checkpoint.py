from __future__ import annotations

import errno
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


def test_disk_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(path, STATE)

    def half(state: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(CheckpointError, match=r"last.ckpt could not be saved \(No space left.*before it is kept"):
        write_checkpoint(path, {"step": 4})
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert read_checkpoint(path)["step"] == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_torch_tells_why_it_could_not_write() -> None:
    """Relied upon: written to a file object, not to a path, torch raises the system's error."""
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb") as file:
        torch.save({"weight": torch.zeros(100_000)}, file)


def test_missing(path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is nothing to resume in"):
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
