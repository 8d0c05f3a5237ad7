from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from safetensors.torch import load_file

from queryseg.data import sampling
from queryseg.data.data_file import open_data
from queryseg.data.data_identity import DataIdentity
from queryseg.data.shard_writer import write_shards
from queryseg.training.checkpoint import read_checkpoint


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of a run on seven shards of one image each."""
    source = {"layout": "folders", "root": str(data), "classes": tiny_run.CLASSES}
    write_shards(open_data(source), tmp_path / "shards", DataIdentity.of(source).to_json(), shard_bytes=1)
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 7
    values = tiny_run.settings(data, validate_every=0)
    values["data"]["train"] = {"layout": "shards", "root": str(tmp_path / "shards")}
    return values


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_run_on_few_shards_is_the_run_on_folders(data: Path, shards: dict[str, Any], tmp_path: Path) -> None:
    """Bit for bit; the checkpoint's data are the same, too."""
    tiny_run.run(shards, tmp_path / "a")
    tiny_run.run(tiny_run.settings(data, validate_every=0), tmp_path / "b")
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert read_checkpoint(tmp_path / "a/last.ckpt")["data"] == read_checkpoint(tmp_path / "b/last.ckpt")["data"]


def test_a_run_on_many_shards_resumes_exactly(
    shards: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, with samples mixed among two shards at a time; another order than on folders."""
    mixed = tmp_path / "mixed"
    tiny_run.run(shards, mixed)
    monkeypatch.setattr(sampling, "SHARDS_TOGETHER", 2)
    tiny_run.run(shards, tmp_path / "whole")
    tiny_run.run(shards, tmp_path / "parts", until=2)
    tiny_run.run(shards, tmp_path / "parts", resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not torch.equal(whole["queries.content"], weights(mixed)["queries.content"])
