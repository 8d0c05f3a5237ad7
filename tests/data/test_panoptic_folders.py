"""Layout `panoptic_folders`: what does not fit is refused by name; what fits is read in tests/data/test_writer.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from queryseg.data.data_file import open_data
from queryseg.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One image of 4×6: a road (category 7) with two cars (category 9) and a crowd of cars."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "images" / "a.png")
    ids = np.zeros((4, 6, 3), np.uint8)
    ids[1:] = (5, 0, 0)
    ids[2, :2], ids[2, 2:4], ids[2, 4:] = (6, 1, 0), (7, 0, 0), (8, 0, 0)
    Image.fromarray(ids).save(tmp_path / "labels" / "a.png")
    segments = [{"id": i, "category_id": c} for i, c in ((5, 7), (7, 9), (262, 9))]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "a.png",
                "segments_info": [*segments, {"id": 8, "category_id": 9, "iscrowd": 1}],
            }
        ],
        "categories": [
            {"id": 7, "name": "road", "isthing": 0, "color": [1, 2, 3]},
            {"id": 9, "name": "car", "isthing": 1},
        ],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return tmp_path


def settings(root: Path, **changes: object) -> dict[str, object]:
    return {"layout": "panoptic_folders", "root": str(root), "index": "panoptic.json", **changes}


def test_the_json_s_own_classes(root: Path) -> None:
    """Categories are the classes; objects are numbered in the JSON's order, a crowd is 0, void is 255."""
    dataset = open_data(settings(root))
    assert dataset.classes.names == ("road", "car")
    assert dataset.classes.colors[0] == (1, 2, 3)
    assert dataset.classes.things == {1}
    sample = dataset[0]
    assert sample.name == "a"
    assert sample.label_map.tolist() == [[255] * 6, [0] * 6, [1] * 6, [0] * 6]
    assert sample.instance_map is not None
    assert sample.instance_map.tolist() == [[0] * 6, [0] * 6, [2, 2, 1, 1, 0, 0], [0] * 6]


def test_a_table_of_other_order(root: Path) -> None:
    """Labels are the table's, found by name."""
    dataset = open_data(settings(root, classes={"names": ["car", "sky", "road"], "things": ["car"]}))
    assert dataset[0].label_map[1:].unique().tolist() == [0, 2]


def test_what_does_not_fit(root: Path) -> None:
    """A missing folder or file, a class table without a category, images of another size, an empty JSON."""
    with pytest.raises(InputError, match=r"no folder '.*pictures', the 'images'"):
        open_data(settings(root, images="pictures"))
    with pytest.raises(InputError, match=r"'.*val\.json' cannot be read"):
        open_data(settings(root, index="val.json"))
    with pytest.raises(InputError, match="Category 'car' is no class"):
        open_data(settings(root, classes=["road", "cars"]))
    Image.new("RGB", (6, 5)).save(root / "images" / "a.png")
    with pytest.raises(InputError, match=r"a\.png' has 6×5 pixels, but its label .* 6×4"):
        open_data(settings(root))[0]
    (root / "labels" / "a.png").unlink()
    with pytest.raises(InputError, match=r"labels/a\.png"):
        open_data(settings(root)).read_label_map(0)  # type: ignore[attr-defined]
    (root / "panoptic.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(InputError, match="lists no image"):
        open_data(settings(root, classes="cityscapes"))
