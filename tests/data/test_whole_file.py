"""Files are whole at any moment."""

import os
from pathlib import Path

import pytest

from queryseg.data.whole_file import whole_file, write_whole
from queryseg.errors import InputError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file.txt"
    write_whole(path, lambda part: part.write_text("first"))
    assert path.read_text() == "first"

    def half(part: Path) -> None:
        part.write_text("sec")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"file\.txt' cannot be written \(No space left on device\)"):
        write_whole(path, half)
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"], "what was begun is gone"
    write_whole(path, lambda part: part.write_text("third"))
    assert path.read_text() == "third"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    with pytest.raises(InputError, match=r"x' cannot be written \((File exists|Not a directory)\)"):
        write_whole(path / "x", lambda part: part.write_text(""))


@pytest.mark.parametrize("lasting", [False, True])
def test_a_stop_at_any_moment_keeps_the_file_before(
    lasting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C included. Only lasting files wait for the disk: the file itself before it gets its name, and its folder
    after that."""
    path, calls = tmp_path / "file", list[str]()
    path.write_text("first")
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=original: (calls.append(n), f(*a))[1])

    def stopped() -> None:
        with whole_file(path, lasting) as part:
            part.write_text("sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert calls == []
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "first"
    with whole_file(path, lasting) as part:
        part.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert calls == (["fsync", "replace", "fsync"] if lasting else ["replace"])
