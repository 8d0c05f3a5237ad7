"""The audit of labels and its picture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from queryseg.data.audit_picture import audit_picture
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.label_audit import audit_labels
from queryseg.data.streets import Streets
from queryseg.errors import InputError

VIEW = (slice(50, 174), slice(8, 192))  # of the first card: below title and bar, right of the gap
RED, GREEN = (250, 10, 10), (10, 250, 10)


def write_files(root: Path, tree: Mapping[str, np.ndarray]) -> None:
    for path, pixels in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / path)


def picture_of(label: np.ndarray) -> np.ndarray:
    """Red where the label is 26 (car), green elsewhere."""
    return np.where(label[..., None] == 26, np.uint8(RED), np.uint8(GREEN))


@pytest.fixture
def cityscapes(tmp_path: Path) -> SegmentationDataset:
    """Two images: road with a big car, and road with a parking place and a car of one pixel."""
    first = np.full((120, 160), 7, np.uint8)
    first[40:80, 40:120] = 26
    second = np.full((120, 160), 7, np.uint8)
    second[:, :80] = 9
    second[0, 159] = 26
    tree = {}
    for name, label in (("a/a_1", first), ("b/b_1", second)):
        tree[f"leftImg8bit/val/{name}_leftImg8bit.png"] = picture_of(label)
        tree[f"gtFine/val/{name}_gtFine_labelIds.png"] = label
    write_files(tmp_path, tree)
    return open_data({"layout": "cityscapes", "root": str(tmp_path), "split": "val"})


def test_counts_before_and_after_the_mapping(cityscapes: SegmentationDataset) -> None:
    """Pixels, samples and the best place of every raw label."""
    audit = audit_labels(cityscapes)
    uses = {use.raw.name: use for use in audit.uses}
    assert (uses["car"].pixels, uses["car"].samples, uses["car"].largest, uses["car"].raw.label) == (3201, 2, 0, 13)
    assert (uses["parking"].pixels, uses["parking"].largest, uses["parking"].raw.label) == (9600, 1, 255)
    assert (uses["sky"].pixels, uses["sky"].largest) == (0, None)
    assert audit.pixels == 2 * 120 * 160
    assert [use.raw.name for use in audit.of_class(255)][:1] == ["parking"]
    row = next(row for row in audit.to_json()["labels"] if row["raw"]["name"] == "car")
    assert row["class"] == "car"
    assert row["share"] == pytest.approx(3201 / 38400)


def test_evenly_spaced(cityscapes: SegmentationDataset) -> None:
    """Fewer samples may be read than there are."""
    audit = audit_labels(cityscapes, num_samples=1)
    assert (audit.num_read, audit.num_samples, audit.pixels) == (1, 2, 120 * 160)


def test_the_picture_shows_each_label_where_it_is(cityscapes: SegmentationDataset) -> None:
    """Cards in the order of classes; in full colour is what has the label, everything else is faded to grey."""
    pixels = np.asarray(audit_picture(cityscapes, audit_labels(cityscapes)))
    step = 184 + 8
    road, car, parking = (
        pixels[VIEW[0], slice(8 + i * step, 192 + i * step)].reshape(-1, 3).tolist() for i in range(3)
    )
    assert tuple(pixels[30, 9]) == (128, 64, 128)  # the bar of the class road
    assert tuple(pixels[30, 9 + step]) == (0, 0, 142)
    assert tuple(pixels[30, 9 + 2 * step]) == (0, 0, 0)
    assert list(GREEN) in road
    assert list(RED) not in road
    assert list(RED) in car
    assert list(GREEN) not in car
    assert [0, 0, 142] in car  # the outline
    assert list(GREEN) in parking
    faded = [p for p in car if p[0] == p[1] == p[2]]
    assert len(faded) > 0.5 * len(car)


def test_a_wrong_mapping_changes_the_picture(cityscapes: SegmentationDataset, tmp_path: Path) -> None:
    """A car among the roads is a second card under the bar of roads."""
    keys = {"layout": "cityscapes", "root": str(tmp_path), "split": "val", "classes": ["road", "car"]}
    wrong = open_data({**keys, "mapping": {"road": ["road", "car"], "car": "truck", "ignore": "rest"}})
    pixels = np.asarray(audit_picture(wrong, audit_labels(wrong)))
    bar = pixels[30, 9]
    assert (pixels[30, 9 : 2 * 184 + 8] == bar).all()


def test_folders_are_audited_by_value(tmp_path: Path) -> None:
    """Where the meaning of values is known from the data file alone, they are their own names."""
    label = np.array([[7, 7, 26, 0]], np.uint8).repeat(4, 0)
    write_files(tmp_path, {"images/a.png": np.zeros((4, 4, 3), np.uint8), "labels/a.png": label})
    keys = {"layout": "folders", "root": str(tmp_path), "classes": ["road", "car"]}
    dataset = open_data({**keys, "label_map": {"road": 7, "car": 26, "ignore": 0}})
    audit = audit_labels(dataset)
    assert {use.raw.name: (use.pixels, use.raw.label) for use in audit.uses} == {
        "id 7": (8, 0),
        "id 26": (4, 1),
        "id 0": (4, 255),
    }
    assert audit_picture(dataset, audit).width == 6 * 192 + 8


def test_rgb_labels(tmp_path: Path) -> None:
    """Packed colours are counted as well as small ids."""
    blue = np.full((4, 4, 3), (0, 0, 142), np.uint8)
    write_files(tmp_path, {"images/a.png": np.zeros((4, 4, 3), np.uint8), "labels/a.png": blue})
    keys = {"layout": "folders", "root": str(tmp_path), "classes": ["road", "car"]}
    audit = audit_labels(open_data({**keys, "label_map": {"car": [[0, 0, 142]], "ignore": [[0, 0, 0]]}}))
    assert [(use.raw.name, use.raw.color, use.pixels) for use in audit.of_class(1)] == [
        ("[0, 0, 142]", (0, 0, 142), 16)
    ]


def test_nothing_to_audit() -> None:
    """Rendered streets have no labels but their classes."""
    with pytest.raises(InputError, match="has no labels but its classes"):
        audit_labels(Streets("clear", 1, 0, (64, 128)))
