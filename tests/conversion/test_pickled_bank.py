"""The bank of SimCIS's authors becomes a bank of queryseg, beside the run that is converted with it.

Shape legend: K classes, D query width.
"""

from __future__ import annotations

import json
import os
import pickle
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from queryseg.cli.main import main
from queryseg.conversion.pickled_bank import read_pickled_bank
from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import MODEL
from queryseg.objectives import VirtualQueries
from queryseg.objectives.query_bank import BANK_FILE, QueryBank
from queryseg.types import Dims

from .official_faseg import official as official_faseg
from .test_faseg import random_faseg
from .test_simcis import NAMES, saved

COUNTS = {2: 4, 0: 1}
"""Of 3 classes; the second has no queue."""
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "lists": lambda row: row.tolist(), "arrays": lambda row: row, "tensors": torch.from_numpy,
}  # fmt: skip


def rows_of(label: int, width: int) -> np.ndarray:
    """(n, D)"""
    return np.random.default_rng(label).standard_normal((COUNTS[label], width)).astype("f4")


def pickled(path: Path, kind: str = "lists", width: int = 32, zipped: bool = True) -> Path:
    """As the authors write it; queues hold at most 4."""
    queues = {label: deque(map(KINDS[kind], rows_of(label, width)), maxlen=4) for label in COUNTS}
    if zipped:
        torch.save(queues, path)
    else:
        path.write_bytes(pickle.dumps(queues))
    return path


@pytest.mark.parametrize(
    ("kind", "zipped"), [(kind, zipped) for kind in KINDS for zipped in (True, False) if zipped or kind != "tensors"]
)
def test_every_queue_keeps_its_order(kind: str, zipped: bool, tmp_path: Path) -> None:
    bank = read_pickled_bank(pickled(tmp_path / "fake_query.pkl", kind, zipped=zipped), 3, 32)
    assert bank.counts.tolist() == [1, 0, 4]
    assert bank.length == 4
    for label in COUNTS:
        assert torch.equal(bank.entries(label), torch.from_numpy(rows_of(label, 32)).half())


def test_the_bank_goes_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the objective of the next step reads it."""
    bank, out, told = pickled(tmp_path / "fake_query.pkl"), tmp_path / "run", tmp_path / "told.json"
    arguments = ["convert", saved(tmp_path), "--bank", str(bank), "--out", str(out), "--classes", ",".join(NAMES)]
    assert main([*arguments, "--json", str(told)]) == 0
    assert f"5 virtual queries of 2 of 3 classes: {BANK_FILE}" in capsys.readouterr().out
    assert json.loads(told.read_text())["virtual_queries"] == [1, 0, 4]
    dims = Dims(tuple(NAMES), 32, 1, (32,), (32,), 32, 32)
    objective = VirtualQueries(dims, old_classes=[0, 2], length=3, bank=str(out / BANK_FILE))
    assert objective.bank.counts.tolist() == [1, 0, 3]
    newest = torch.from_numpy(rows_of(2, 32)).half()[-3:]
    assert torch.equal(objective.bank.entries(2), newest)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {3: deque([[1.0, 2.0]])},
            r"has queries of class 3, but the model has the classes 0 to 2; give the bank of the",
        ),
        ({"road": deque([[1.0, 2.0]])}, r"has queries of class 'road', but the model has the classes 0 to 2"),
        ({1: deque([[1.0, 2.0, 3.0]])}, r"queries of width 3 \(class 1\), but the model's are 2 wide"),
        ({1: deque([[1.0, 2.0], [1.0]])}, r"of class 1 is no queue of vectors of one width \(expected sequence"),
        ({1: deque([np.ones(2), np.ones(3)])}, r"of class 1 is no queue of vectors of one width \(stack expects"),
        ({1: deque([1.0, 2.0])}, r"of class 1 is no queue of vectors of one width \(1 axes instead of 2\)"),
        ({1: deque(["a"])}, r"of class 1 is no queue of vectors"),
        ({1: deque([[1.0, float("nan")]])}, r"numbers in class 1 that are not finite in half precision"),
        ({1: deque([[1.0, 1e6]])}, r"numbers in class 1 that are not finite in half precision"),
        ({}, r"holds no queues of queries"),
        ([1.0], r"holds no queues of queries"),
        ({"model": {"w": np.ones(2)}}, r"of class 'model' is no queue of vectors"),
    ],
)
def test_other_files_are_refused(content: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "fake_query.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=sentence):
        read_pickled_bank(path, 3, 2)


def test_nothing_in_a_bank_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'trace'}",)

    path = tmp_path / "fake_query.pkl"
    path.write_bytes(pickle.dumps({0: deque([Evil()])}))
    with pytest.raises(CheckpointError, match="no queue of vectors"):
        read_pickled_bank(path, 3, 2)
    assert not (tmp_path / "trace").exists()


def test_a_bank_belongs_to_simcis_and_to_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written then."""
    bank = pickled(tmp_path / "fake_query.pkl", width=16)
    arguments = ["--bank", str(bank), "--out", str(tmp_path / "run"), "--classes", ",".join(NAMES)]
    assert main(["convert", saved(tmp_path), *arguments]) == 2
    assert "but the model's are 32 wide; give the bank of the same training" in capsys.readouterr().err
    arguments[1] = str(tmp_path / "nothing.pkl")
    assert main(["convert", saved(tmp_path), *arguments]) == 2
    assert "There is no weight file" in capsys.readouterr().err
    torch.save(official_faseg(random_faseg("swin"), "swin"), tmp_path / "faseg.pth")
    assert main(["convert", str(tmp_path / "faseg.pth"), *arguments]) == 2
    assert "--bank is for SimCIS, but" in capsys.readouterr().err
    assert not (tmp_path / "run" / MODEL).exists()
    assert not (tmp_path / "run" / BANK_FILE).exists()
    assert main(["convert", str(bank), "--out", str(tmp_path / "run")]) == 2
    assert "holds queues instead of named tensors; if it is SimCIS's bank" in capsys.readouterr().err


def test_a_bank_of_nothing_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "fake_query.pkl"
    path.write_bytes(pickle.dumps({0: deque(maxlen=80), 1: deque(maxlen=80)}))
    bank = read_pickled_bank(path, 3, 2)
    assert isinstance(bank, QueryBank)
    assert bank.counts.tolist() == [0, 0, 0]
