"""Labels drawn as polygons."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from queryseg.data.class_table import CITYSCAPES_ALL
from queryseg.data.layouts.polygons import rasterise
from queryseg.errors import InputError

RNG = np.random.default_rng(0)


def write(path: Path, objects: list[dict[str, object]], width: int = 40, height: int = 30) -> Path:
    path.write_text(json.dumps({"imgWidth": width, "imgHeight": height, "objects": objects}))
    return path


def test_equals_drawing_ids_one_by_one(tmp_path: Path) -> None:
    """The same pixels as an image of 16-bit ids that Pillow draws in one go, for random overlapping polygons."""
    names = ["road", "car", "sky", "person", "cargroup", "license plate", "polegroup"]
    objects = [
        {"label": names[i % len(names)], "polygon": RNG.integers(-3, 42, (3 + i % 4, 2)).tolist()} for i in range(60)
    ]
    found = rasterise(write(tmp_path / "a.json", objects), CITYSCAPES_ALL, frozenset({"license plate"}))
    expected = Image.new("I", (40, 30), 0)
    numbers = 0
    for entry in objects:
        name = str(entry["label"])
        if name == "license plate":
            continue
        ids = {"road": 7, "car": 26, "sky": 23, "person": 24, "cargroup": 26, "polegroup": 18}
        number = 0
        if name in ("car", "person"):
            numbers += 1
            number = numbers
        corners = [tuple(corner) for corner in entry["polygon"]]  # type: ignore[union-attr]
        ImageDraw.Draw(expected).polygon(corners, fill=ids[name] * 1000 + number)
    assert (found["labels"] == np.array(expected) // 1000).all()
    assert (found["objects"] == np.array(expected) % 1000).all()
    assert len(np.unique(found["labels"])) > 4


def test_skipped_and_deleted_leave_what_is_below(tmp_path: Path) -> None:
    """A licence plate is a piece of its car."""
    square = [[0, 0], [39, 0], [39, 29], [0, 29]]
    objects = [
        {"label": "car", "polygon": square},
        {"label": "license plate", "polygon": square},
        {"label": "sky", "polygon": square, "deleted": 1},
        {"label": "sky", "polygon": square[:2]},
    ]
    found = rasterise(write(tmp_path / "a.json", objects), CITYSCAPES_ALL, frozenset({"license plate"}))
    assert (found["labels"] == 26).all()
    assert (found["objects"] == 1).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"a\.json' cannot be read .* it needs imgWidth"),
        ('{"imgWidth": 3}', r"cannot be read \('imgHeight'\)"),
        ('{"imgWidth": 0, "imgHeight": 3, "objects": []}', r"says that its image has 0×3 pixels"),
        (
            '{"imgWidth": 3, "imgHeight": 3, "objects": [{"label": "raod", "polygon": [[0,0],[1,0],[1,1]]}]}',
            r"unknown label 'raod'\. Did you mean 'road'",
        ),
    ],
)
def test_bad_files(tmp_path: Path, content: str, message: str) -> None:
    """One sentence that names the file."""
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        rasterise(tmp_path / "a.json", CITYSCAPES_ALL)
