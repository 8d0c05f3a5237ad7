"""What other libraries' errors become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from queryseg.errors import CheckpointError, reason_of
from queryseg.weight_file import read_tensors


def test_the_first_line_is_kept() -> None:
    assert reason_of(RuntimeError("  shapes differ\nlong story")) == "shapes differ"


def test_nobody_is_told_to_run_a_files_code(tmp_path: Path) -> None:
    torch.save({"weights": Path("of an object")}, tmp_path / "objects.pth")
    (tmp_path / "text.pth").write_text(json.dumps({"a": 1}))
    for name, reason in (
        ("objects", "it holds pathlib.PosixPath, and code in files is never run"),
        ("text", "no file of"),
    ):
        with pytest.raises(CheckpointError, match=reason) as error:
            read_tensors(str(tmp_path / f"{name}.pth"))
        assert "weights_only" not in str(error.value)
