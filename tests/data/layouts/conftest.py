from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Converted labels never go into the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("QUERYSEG_CACHE", str(folder))
    return folder
