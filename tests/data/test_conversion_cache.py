"""The folder of converted labels."""

import os
import pickle
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from queryseg.data.conversion_cache import ConversionCache, cache_folder, clear_cache
from queryseg.data.file_tree import DataFile, FileTree


class Counter:
    """A conversion that counts how often it runs."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, file: DataFile) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"labels": np.frombuffer(file.read_bytes(), np.uint8), "objects": np.arange(3)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUERYSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_converted_once_until_the_file_or_the_code_changes(tmp_path: Path) -> None:
    """The key is path, size, time of change and version."""
    file, make = tmp_path / "a.json", Counter()
    file.write_bytes(b"one")
    cache = ConversionCache("test", 1)
    for again in (cache, ConversionCache("test", 1), pickle.loads(pickle.dumps(cache))):
        assert again.get(file, make)["labels"].tobytes() == b"one"
    assert make.calls == 1
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert cache.get(file, make)["labels"].tobytes() == b"two"
    ConversionCache("test", 2).get(file, make)
    ConversionCache("other", 1).get(file, make)
    assert make.calls == 4


def test_archived_files_have_keys_of_their_own(tmp_path: Path) -> None:
    """Two members of one zip are two entries."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/1.json", b"one")
        archive.writestr("x/2.json", b"two")
    cache, make = ConversionCache("test", 1), Counter()
    files = FileTree(tmp_path).files("x")
    for _ in range(2):
        assert [cache.get(file, make)["labels"].tobytes() for file in files.values()] == [b"one", b"two"]
    assert make.calls == 2


def test_damaged_entries_are_made_again(tmp_path: Path, folder: Path) -> None:
    """An entry that was cut off is no error."""
    (tmp_path / "a.json").write_bytes(b"one")
    cache, make = ConversionCache("test", 1), Counter()
    cache.get(tmp_path / "a.json", make)
    (entry,) = folder.rglob("*.npz")
    entry.write_bytes(entry.read_bytes()[:20])
    assert cache.get(tmp_path / "a.json", make)["labels"].tobytes() == b"one"
    assert make.calls == 2
    cache.get(tmp_path / "a.json", make)
    assert make.calls == 2


def test_many_at_a_time(tmp_path: Path, folder: Path) -> None:
    """Writers of one entry do not disturb each other, and leave nothing behind."""
    (tmp_path / "a.json").write_bytes(b"one" * 1000)
    cache, make = ConversionCache("test", 1), Counter()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.get(tmp_path / "a.json", make)["labels"].tobytes(), range(64)))
    assert set(found) == {b"one" * 1000}
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are converted every time, and one warning says so."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "a.json").write_bytes(b"one")
    monkeypatch.setenv("QUERYSEG_CACHE", str(tmp_path / "file" / "cache"))
    make = Counter()
    with pytest.warns(UserWarning, match="cannot be kept in .* set QUERYSEG_CACHE") as said:
        cache = ConversionCache("test", 1)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = ConversionCache("test", 1)
        for _ in range(2):
            assert again.get(tmp_path / "a.json", make)["labels"].tobytes() == b"one"
            cache.get(tmp_path / "a.json", make)
    assert make.calls == 4


def test_clear(tmp_path: Path, folder: Path) -> None:
    """Clearing tells the bytes and leaves nothing."""
    (tmp_path / "a.json").write_bytes(b"one")
    ConversionCache("test", 1).get(tmp_path / "a.json", Counter())
    size = sum(path.stat().st_size for path in folder.rglob("*.npz"))
    assert clear_cache() == size > 0
    assert not list(folder.rglob("*.npz"))
    assert clear_cache() == 0


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """QUERYSEG_CACHE before XDG_CACHE_HOME before the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder().name == "cache"
    monkeypatch.delenv("QUERYSEG_CACHE")
    assert cache_folder() == Path("/x/queryseg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "queryseg"
