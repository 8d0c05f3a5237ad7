from pathlib import Path

import pytest

from queryseg.data.whole_file import write_whole
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
    write_whole(path, lambda part: part.write_text("third"))
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
