from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from queryseg.data.check import check_data
from queryseg.data.data_file import open_data
from queryseg.data.dataset import FileBacked
from queryseg.data.image_file import read_label
from queryseg.data.streets import Streets, render
from queryseg.data.writer import instance_ids, write_cityscapes
from queryseg.errors import InputError


def test_written_streets_are_read_back(tmp_path: Path) -> None:
    streets = Streets("other_city", num_images=2, seed=5, size=(48, 96))
    seen: list[tuple[int, int]] = []
    path = write_cityscapes(streets, tmp_path, "val", progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "val_othercity.yaml"
    assert seen == [(1, 2), (2, 2)]
    dataset = open_data(path)
    assert len(dataset) == 2
    for i in range(2):
        assert torch.equal(dataset[i].image, streets[i].image)
        assert torch.equal(dataset[i].label_map, streets[i].label_map)
    assert dataset[1].name == "othercity_000001_000019"
    labels = tmp_path / "gtFine/val/othercity"
    assert sorted(p.name for p in labels.iterdir())[:4] == [
        f"othercity_000000_000019_gtFine_{kind}.png" for kind in ("color", "instanceIds", "labelIds", "labelTrainIds")
    ]
    scene = render("other_city", 5, 0, (48, 96))
    stem = "othercity_000000_000019_gtFine_"
    assert (read_label(labels / f"{stem}labelTrainIds.png") == scene.label_map).all()
    written = read_label(labels / f"{stem}instanceIds.png").astype(int)
    assert ((written >= 1000) == (scene.instance_map > 0)).all()
    label_ids = read_label(labels / f"{stem}labelIds.png")
    assert (np.where(written >= 1000, written // 1000, written) == label_ids).all()
    assert Image.open(labels / f"{stem}color.png").mode == "RGB"


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    streets = Streets("clear", num_images=3, size=(32, 64))
    for num_workers in (0, 2):
        write_cityscapes(streets, tmp_path / str(num_workers), "train", num_workers)
    files = [p.relative_to(tmp_path / "0") for p in (tmp_path / "0").rglob("*") if p.is_file()]
    assert len(files) == 3 * 5 + 1
    for file in files:
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_instance_ids_count_within_each_class() -> None:
    label_ids = np.array([[7, 26, 26, 24, 26]], np.uint8)
    instances = np.array([[0, 3, 9, 4, 3]])
    assert instance_ids(label_ids, instances).tolist() == [[7, 26000, 26001, 24000, 26000]]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_cityscapes(Streets(num_images=1, size=(32, 64)), tmp_path / "file", "val")


def test_panoptic_files_are_read_back(tmp_path: Path) -> None:
    """Segments in COCO's format beside the same labels: names, classes and objects are those of the scene."""
    streets = Streets("clear", num_images=2, seed=5, size=(64, 128))
    path = write_cityscapes(streets, tmp_path, "val", panoptic=True)
    assert path == tmp_path / "val_clear_panoptic.yaml"
    dataset, semantic = open_data(path), open_data(tmp_path / "val_clear.yaml")
    assert dataset.classes == semantic.classes
    assert isinstance(dataset, FileBacked)
    assert dataset.problems() == []
    for i in range(2):
        found, scene = dataset[i], streets[i]
        assert found.instance_map is not None
        assert scene.instance_map is not None
        assert torch.equal(found.image, scene.image)
        assert torch.equal(found.label_map, scene.label_map)
        assert torch.equal(dataset.read_label_map(i), scene.label_map)
        pairs = torch.stack([found.instance_map.flatten(), scene.instance_map.flatten()]).unique(dim=1)
        assert pairs.shape[1] == len(scene.instance_map.unique()) == len(found.instance_map.unique()) > 3
    assert check_data(dataset).ok
    (tmp_path / "gtFine/panoptic/val_clear/clear_000001_000019_panoptic.png").unlink()
    assert [problem.kind for problem in dataset.problems()] == ["missing label"]
