from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from queryseg.data.folders import Folders, MismatchedSizesError
from queryseg.errors import InputError

CLASSES = ["road", "car"]


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_pairs(root: Path, names: Sequence[str], label: int = 1) -> None:
    for i, name in enumerate(names):
        write(root / f"images/{name}.jpg", np.full((6, 8, 3), 40 * i, np.uint8))
        write(root / f"labels/{name}.png", np.full((6, 8), label, np.uint8))


def test_pairs_by_relative_path(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["b/2", "a/1", "a/2"])
    (tmp_path / "images/a/.DS_Store.jpg").write_bytes(b"")
    (tmp_path / "images/notes.txt").write_text("")
    dataset = Folders(tmp_path, classes=CLASSES)
    assert [dataset.sample_name(i) for i in range(len(dataset))] == ["a/1", "a/2", "b/2"]
    assert dataset.name == tmp_path.name
    sample = dataset[0]
    assert sample.name == "a/1"
    assert sample.image.shape == (3, 6, 8)
    assert sample.label_map.dtype == torch.uint8
    assert (sample.label_map == 1).all()
    assert dataset.files(2) == (tmp_path / "images/b/2.jpg", tmp_path / "labels/b/2.png")
    assert (dataset.read_label_map(0) == 1).all()


def test_cityscapes_suffixes_and_split(tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path / f"leftImg8bit/val/ulm/ulm_{i}_leftImg8bit.png", np.zeros((6, 8, 3), np.uint8))
        write(tmp_path / f"gtFine/val/ulm/ulm_{i}_gtFine_labelIds.png", np.full((6, 8), 26, np.uint8))
        write(tmp_path / f"gtFine/val/ulm/ulm_{i}_gtFine_color.png", np.zeros((6, 8, 3), np.uint8))
    dataset = Folders(
        tmp_path,
        "leftImg8bit/{split}",
        "gtFine/{split}",
        "_leftImg8bit.png",
        "_gtFine_labelIds.png",
        split="val",
        label_map="cityscapes_ids",
    )
    assert [dataset[i].name for i in range(2)] == ["ulm/ulm_0", "ulm/ulm_1"]
    assert (dataset[0].label_map == 13).all()
    with pytest.raises(InputError, match="no 'split' is given"):
        Folders(tmp_path, "leftImg8bit/{split}")


def test_camvid_as_downloaded(tmp_path: Path) -> None:
    write(tmp_path / "day/train/images/0006R0_f00930.jpg", np.zeros((6, 8, 3), np.uint8))
    write(tmp_path / "day/train/labels/0006R0_f00930.png", np.array([[*range(12)]], np.uint8).repeat(6, 0)[:, 4:])
    dataset = Folders(
        tmp_path,
        "day/train/images",
        "day/train/labels",
        classes="camvid",
        label_map={"preset": "identity", "ignore": 11},
    )
    assert dataset[0].label_map[0].tolist() == [4, 5, 6, 7, 8, 9, 10, 255]


def test_color_labels_and_a_single_channel(tmp_path: Path) -> None:
    write(tmp_path / "images/1.png", np.zeros((6, 8, 3), np.uint8))
    write(tmp_path / "labels/1.png", np.tile(np.array([0, 0, 142], np.uint8), (6, 8, 1)))
    colors = Folders(tmp_path, classes=CLASSES, label_map={"car": [[0, 0, 142]]})
    assert (colors[0].label_map == 1).all()
    channel = Folders(tmp_path, classes=CLASSES, label_map={"car": 142}, label_channel=2)
    assert (channel[0].label_map == 1).all()
    with pytest.raises(InputError, match=r"labels/1\.png.*RGB label where ids are expected"):
        Folders(tmp_path, classes=CLASSES)[0]


@pytest.mark.parametrize(
    "lines",
    ["images/b.jpg labels/b.png\n# comment\n\nimages/a.jpg\tlabels/a.png\n", "b\na\n"],
)
def test_list_files(tmp_path: Path, lines: str) -> None:
    write_pairs(tmp_path, ["a", "b", "c"])
    (tmp_path / "val.txt").write_text(lines)
    dataset = Folders(
        tmp_path, "images/{name}.jpg", "labels/{name}.png", list_file="{split}.txt", split="val", classes=CLASSES
    )
    assert [Path(dataset[i].name).name for i in range(len(dataset))] == ["b", "a"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a b c\n", "Line 1 of .* has 3 columns"),
        ("\n# nothing\n", "is empty"),
        ("images/a.jpg labels/a.png\nimages/a.jpg labels/a.png\n", "Line 2 .* second time"),
        ("images/a.jpg labels/z.png\n", r"1 image has no label .*a\.jpg"),
        ("images/z.jpg labels/a.png\n", r"1 label has no image .*a\.png"),
        ("a\n", "one column"),
    ],
)
def test_refused_list_files(tmp_path: Path, lines: str, message: str) -> None:
    write_pairs(tmp_path, ["a"])
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises(InputError, match=message):
        Folders(tmp_path, list_file="list.txt", classes=CLASSES)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder '.*nowhere', the 'root'"):
        Folders(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no folder '.*images', where the images should be"):
        Folders(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"'.*images' has no images: no file is one of .*\.png"):
        Folders(tmp_path)
    write_pairs(tmp_path, ["a"])
    with pytest.raises(InputError, match=r"'.*labels' has no labels: no file ends in '_x\.png'"):
        Folders(tmp_path, label_suffix="_x.png")
    with pytest.raises(InputError, match=r"The list of files .* cannot be read"):
        Folders(tmp_path, list_file="none.txt")


def test_unpaired_files(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b", "c", "d", "e"])
    for name in "bcde":
        (tmp_path / f"labels/{name}.png").unlink()
    write(tmp_path / "labels/z.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(InputError) as caught:
        Folders(tmp_path, classes=CLASSES)
    assert "4 images have no label" in str(caught.value)
    assert "b.jpg" in str(caught.value)
    assert "e.jpg" not in str(caught.value)
    assert "1 label has no image" in str(caught.value)
    assert "z.png" in str(caught.value)
    skipped = Folders(tmp_path, classes=CLASSES, unpaired="skip")
    assert len(skipped) == 1
    assert not skipped.problems()
    reported = Folders(tmp_path, classes=CLASSES, unpaired="report")
    assert [problem.kind for problem in reported.problems()] == ["image without label", "label without image"]
    (tmp_path / "labels/a.png").unlink()
    with pytest.raises(InputError, match="must agree but for 'image_suffix'"):
        Folders(tmp_path, classes=CLASSES, unpaired="skip")


def test_two_files_of_one_name(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    write(tmp_path / "images/a.png", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(InputError, match="have the same name"):
        Folders(tmp_path, classes=CLASSES)
    assert len(Folders(tmp_path, classes=CLASSES, image_suffix=".png")) == 1


def test_sizes_that_differ(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    write(tmp_path / "labels/a.png", np.zeros((5, 8), np.uint8))
    with pytest.raises(MismatchedSizesError, match=r"a\.jpg' has 8×6 pixels.*a\.png' has 8×5"):
        Folders(tmp_path, classes=CLASSES)[0]


def test_label_value_outside_the_map(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"], label=9)
    with pytest.raises(InputError, match=r"a\.png' has values outside the label map: 9 \(48 pixels\)"):
        Folders(tmp_path, classes=CLASSES)[0]


def test_options_of_the_wrong_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'images' is 3, but must be text"):
        Folders(tmp_path, images=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'unpaired' is 'drop'"):
        Folders(tmp_path, unpaired="drop")  # type: ignore[arg-type]
