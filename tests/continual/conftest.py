from __future__ import annotations

from pathlib import Path

import pytest
import tiny_continual


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_continual.write_data(tmp_path_factory.mktemp("continual_data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYSEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
