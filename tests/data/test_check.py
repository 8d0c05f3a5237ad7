import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from queryseg.data.check import check_data
from queryseg.data.class_table import class_table
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset
from queryseg.types import Sample


def write(root: Path, name: str, label: np.ndarray | None, size: tuple[int, int] = (4, 6)) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(root / f"images/{name}.png")
    if label is not None:
        Image.fromarray(label).save(root / f"labels/{name}.png")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A good sample, and one of every kind of bad one."""
    good = np.zeros((4, 6), np.uint8)
    good[0], good[3] = 1, 255
    write(tmp_path, "a_good", good)
    write(tmp_path, "b_unknown", np.full((4, 6), 7, np.uint8))
    write(tmp_path, "c_size", good[:3])
    write(tmp_path, "d_truncated", np.full((4, 6), 9, np.uint8))
    path = tmp_path / "images/d_truncated.png"
    path.write_bytes(path.read_bytes()[:45])
    write(tmp_path, "e_rgb", np.zeros((4, 6, 3), np.uint8))
    write(tmp_path, "f_alone", None)
    write(tmp_path, "g_unknown", np.full((4, 6), 7, np.uint8))
    (tmp_path / "data.yaml").write_text("layout: folders\nclasses: [road, car, train]\n")
    return tmp_path


@pytest.mark.parametrize("num_workers", [0, 2])
def test_all_problems_are_collected(broken: Path, num_workers: int) -> None:
    seen: list[tuple[int, int]] = []
    report = check_data(
        open_data(broken / "data.yaml", lenient=True), num_workers, lambda done, total: seen.append((done, total))
    )
    assert [(problem.kind, problem.name) for problem in report.problems] == [
        ("image without label", "data"),
        ("unknown label", "b_unknown"),
        ("sizes that differ", "c_size"),
        ("unreadable file", "d_truncated"),
        ("unknown label", "d_truncated"),
        ("unreadable file", "e_rgb"),
        ("unknown label", "g_unknown"),
    ]
    assert not report.ok
    assert report.num_samples == 6
    assert report.num_usable == 1
    assert report.sizes == {"6×4": 1}
    assert report.pixels_per_class == [12, 6, 0]
    assert report.images_per_class == [1, 1, 0]
    assert report.ignored_pixels == 6
    assert set(report.unknown) == {"7", "9"}
    assert report.unknown["7"].pixels == 48
    assert report.unknown["7"].examples == ["b_unknown", "g_unknown"]
    assert seen[-1] == (6, 6)
    assert json.loads(json.dumps(report.to_json()))["unknown"]["9"]["images"] == 1
    text = "\n".join(report.lines())
    for name in ("b_unknown.png", "c_size.png", "d_truncated.png", "e_rgb.png", "f_alone.png"):
        assert name in text
    assert "Classes that never occur: train." in text


def test_a_good_data_set(tmp_path: Path) -> None:
    write(tmp_path, "a", np.ones((4, 6), np.uint8))
    report = check_data(open_data({"layout": "folders", "root": tmp_path, "classes": ["road", "car"], "name": "town"}))
    assert report.ok
    assert report.lines()[0] == "town: 1 of 1 samples can be used; sizes 6×4 (1)."
    console = Console(width=100)
    with console.capture() as shown:
        console.print(report.table())
    assert "100.00%" in shown.get()


def test_streets_have_no_problems() -> None:
    assert check_data(open_data({"layout": "streets", "num_images": 2, "size": [32, 64]})).ok


def test_labels_beyond_the_class_table_of_other_layouts() -> None:
    class Stray(SegmentationDataset):
        name = "stray"
        classes = class_table(["road"])

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            label_map = torch.tensor([[0, 3, 255]], dtype=torch.uint8)
            return Sample(torch.zeros(3, 1, 3, dtype=torch.uint8), label_map, "s")

    report = check_data(Stray())
    assert [problem.message for problem in report.problems] == [
        "Sample 'stray[0]' has labels 3 outside 0..0 and 255; map or ignore them."
    ]
    assert report.unknown["3"].pixels == 1
