from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
import torch

from queryseg.training.checkpoint import read_checkpoint


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_two_processes_learn_as_one_that_accumulates(data: Path, tmp_path: Path) -> None:
    """The same images, the same mean gradients: what two processes see in a step, one sees in two forward passes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, tiny_run.__file__, str(data), str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for kind in first:
        assert all(torch.equal(first[kind][name], second[kind][name]) for name in first[kind]), kind

    tiny_run.run(tiny_run.even_settings(data, accumulate=2), tmp_path / "one")
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        for column in ("learning_rate", "loss", "even/logits", "even/masks", "gradient_norm"):
            assert float(one[column]) == pytest.approx(float(two[column]), rel=1e-4), column
    banks = [read_checkpoint(tmp_path / name / "last.ckpt")["objectives"]["bank.prototypes"] for name in ("one", "two")]
    assert banks[0].any()
    torch.testing.assert_close(banks[0], banks[1], rtol=1e-4, atol=1e-4)
