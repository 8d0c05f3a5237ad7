"""Shape legend: K classes, L entries per class, D width."""

from __future__ import annotations

import os
import pickle
from collections import deque
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from queryseg.errors import CheckpointError, InputError
from queryseg.objectives.query_bank import BANK_FILE, QueryBank

NAMES = ("road", "car", "sky")


def filled(length: int = 4, width: int = 6) -> QueryBank:
    bank = QueryBank(3, length, width)
    bank.append(torch.tensor([2, 0, 2, 2, 2, 2]), torch.arange(6.0)[:, None].expand(6, width))
    return bank


def test_a_bank_is_a_queue_per_class() -> None:
    torch.manual_seed(0)
    bank, queues = QueryBank(3, 4, 2), [deque[float](maxlen=4) for _ in range(3)]
    for _ in range(30):
        labels = torch.randint(3, (int(torch.randint(12, ())),))
        rows = torch.randn(len(labels), 2).half().float()
        bank.append(labels, rows)
        for label, row in zip(labels.tolist(), rows, strict=True):
            queues[label].append(float(row[0]))
        assert bank.counts.tolist() == [len(queue) for queue in queues]
        for label, queue in enumerate(queues):
            assert bank.entries(label)[:, 0].tolist() == list(queue)


def test_draws_follow_the_weights_and_reach_every_entry() -> None:
    torch.manual_seed(0)
    bank = filled()
    labels, rows = bank.draw(torch.tensor([1.0, 0.0, 3.0]), 100, 8)
    assert labels.shape == (100, 8)
    assert rows.shape == (100, 8, 6)
    share = float((labels == 2).float().mean())
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 800) ** 0.5
    assert set(labels.unique().tolist()) == {0, 2}
    assert set(rows[labels == 2][:, 0].tolist()) == {2.0, 3.0, 4.0, 5.0}
    assert set(rows[labels == 0][:, 0].tolist()) == {1.0}


def test_a_file_holds_what_is_filled_and_begins_another_bank(tmp_path: Path) -> None:
    bank, path = filled(), tmp_path / BANK_FILE
    bank.write(path, NAMES)
    other = QueryBank(3, 4, 6)
    other.read(path, NAMES)
    assert other.counts.tolist() == [1, 0, 4]
    for label in range(3):
        assert torch.equal(other.entries(label), bank.entries(label))
    shorter = QueryBank(3, 2, 6)
    shorter.read(path, NAMES)
    assert shorter.entries(2)[:, 0].tolist() == [4.0, 5.0], "the newest"
    assert [file.name for file in tmp_path.iterdir()] == [BANK_FILE]


def test_150_classes_take_5_9_mebibytes(tmp_path: Path) -> None:
    names = [f"class number {k} of the table" for k in range(150)]
    bank = QueryBank(150, 80, 256)
    labels = torch.arange(150).repeat_interleave(100)
    bank.append(labels, torch.randn(len(labels), 256))
    bank.write(tmp_path / BANK_FILE, names)
    size = (tmp_path / BANK_FILE).stat().st_size
    assert 150 * 80 * 256 * 2 < size < 5.9 * 2**20


def test_an_empty_bank_can_be_kept(tmp_path: Path) -> None:
    QueryBank(3, 4, 6).write(tmp_path / BANK_FILE, NAMES)
    bank = filled()
    bank.read(tmp_path / BANK_FILE, NAMES)
    assert bank.counts.tolist() == [0, 0, 0]


def test_a_crash_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / BANK_FILE
    filled().write(path, NAMES)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left"):
        QueryBank(3, 4, 6).write(path, NAMES)
    assert path.read_bytes() == before


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


def test_what_is_no_bank_of_this_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / BANK_FILE
    filled().write(path, NAMES)
    with pytest.raises(CheckpointError, match="queries of width 6, but this model's are 8 wide; begin") as caught:
        QueryBank(3, 4, 8).read(path, NAMES)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="queries of 3 classes, which are not the 3 of this recipe"):
        filled().read(path, ("car", "road", "sky"))
    with pytest.raises(CheckpointError, match=r"There is no .*gone"):
        filled().read(tmp_path / "gone", NAMES)
    damaged = tmp_path / "damaged"
    broken: list[bytes] = [b"", path.read_bytes()[:-5], pickle.dumps(Evil())]
    for content in broken:
        damaged.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged or no bank of queries"):
            filled().read(damaged, NAMES)
    assert not Path("executed").exists()
    save_file({"rows": torch.zeros(2, 6), "counts": torch.tensor([1, 1, 1])}, damaged, {"classes": '["a", "b", "c"]'})
    with pytest.raises(CheckpointError, match="its tensors do not fit together"):
        filled().read(damaged, NAMES)
    save_file({"rows": torch.zeros(2, 6)}, damaged)
    with pytest.raises(CheckpointError, match="damaged or no bank"):
        filled().read(damaged, NAMES)
