import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from queryseg.data.corruptions import Corrupted
from queryseg.data.corruptions.corrupted_images import CorruptedImages
from queryseg.data.corruptions.corrupted_tree import write_corrupted
from queryseg.data.data_file import open_data
from queryseg.data.folders import MismatchedSizesError
from queryseg.data.streets import Streets
from queryseg.data.writer import write_cityscapes
from queryseg.errors import InputError

WANTED = [("fog", 3), ("jpeg_compression", 5), ("glass_blur", 1)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two streets in Cityscapes' layout."""
    return write_cityscapes(Streets("clear", 2, size=(32, 64)), tmp_path / "city", "val")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_written_tree_is_read_back_as_it_would_be_made(source: Path, tmp_path: Path, num_workers: int) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "c"
    data_files, written = write_corrupted(source, WANTED, out, num_workers, lambda *done: seen.append(done))
    assert written == 6
    assert seen == [(i, 6) for i in range(1, 7)]
    assert data_files == [out / f"{name}-{severity}.yaml" for name, severity in WANTED]
    image = "leftImg8bit/val/clear/clear_000001_000019_leftImg8bit.png"
    assert (out / "jpeg_compression/5" / image).is_file()
    clean = open_data(source)
    for data_file, (name, severity) in zip(data_files, WANTED, strict=True):
        dataset, made = open_data(data_file), Corrupted(clean, name, severity)
        assert isinstance(dataset, CorruptedImages)
        assert dataset.name == made.name == f"val_clear/{name}-{severity}"
        for index in range(2):
            assert dataset[index].name == made[index].name
            assert torch.equal(dataset[index].image, made[index].image)
            assert torch.equal(dataset[index].label_map, made[index].label_map)


def test_images_in_archives(source: Path, tmp_path: Path) -> None:
    """They are written as those of the unpacked data set are."""
    folder = source.parent
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    packed = tmp_path / "packed.yaml"
    packed.write_text(yaml.safe_dump(yaml.safe_load(source.read_text()) | {"root": str(tmp_path / "all.zip")}))
    write_corrupted(source, WANTED[:1], tmp_path / "one")
    write_corrupted(packed, WANTED[:1], tmp_path / "two")
    assert files(tmp_path / "one" / "fog") == files(tmp_path / "two" / "fog") != {}


def test_going_on_after_an_interruption(source: Path, tmp_path: Path) -> None:
    """Only what is missing is written, and the tree becomes the same as without interruption."""

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corrupted(source, WANTED, tmp_path / "c", progress=stop)
    part = files(tmp_path / "c")
    assert sum(name.endswith(".png") for name in part) == 2
    _, written = write_corrupted(source, WANTED, tmp_path / "c")
    assert written == 4
    write_corrupted(source, WANTED, tmp_path / "whole")
    assert files(tmp_path / "c") == files(tmp_path / "whole")
    assert write_corrupted(source, [*WANTED, ("fog", 1)], tmp_path / "c")[1] == 2


def test_on_the_fly_from_a_data_file(source: Path) -> None:
    """Without 'images', in a recipe or a data file: nothing is written."""
    settings = {"layout": "corrupted", "source": source.name, "corruption": "snow", "severity": 2, "name": "snowy"}
    dataset = open_data(settings, relative_to=source.parent)
    assert dataset.name == "snowy"
    assert torch.equal(dataset[1].image, Corrupted(open_data(source), "snow", 2)[1].image)
    with pytest.raises(InputError, match="Did you mean 'severity'"):
        open_data({**settings, "severty": 3}, relative_to=source.parent)


def test_data_sets_that_are_no_files(tmp_path: Path) -> None:
    """Streets are rendered; their images are numbered."""
    (tmp_path / "streets.yaml").write_text("layout: streets\nnum_images: 2\nsize: [32, 64]\n")
    (data_file,), _ = write_corrupted(tmp_path / "streets.yaml", [("contrast", 4)], tmp_path / "c")
    assert (tmp_path / "c/contrast/4/000001.png").is_file()
    sample = open_data(data_file)[1]
    assert sample.name == Streets(num_images=2, size=(32, 64))[1].name


def test_an_unfinished_tree(source: Path, tmp_path: Path) -> None:
    (data_file, *_), _ = write_corrupted(source, WANTED, tmp_path / "c")
    image = next((tmp_path / "c/fog/3").rglob("*000000_000019*"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    with pytest.raises(MismatchedSizesError, match=r"has 8×8 pixels, but 'clear_000000_000019', .* has 64×32"):
        open_data(data_file)[0]
    image.unlink()
    with pytest.raises(InputError, match="let `queryseg data corrupt` finish"):
        open_data(data_file)[0]


def test_one_tree_holds_one_data_set(source: Path, tmp_path: Path) -> None:
    write_corrupted(source, WANTED[:1], tmp_path / "c")
    other = source.with_name("other.yaml")
    other.write_text(source.read_text())
    with pytest.raises(InputError, match=r"holds other corrupted images .*choose another --out"):
        write_corrupted(other, WANTED[:1], tmp_path / "c")
    (tmp_path / "c/corrupted_tree.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        write_corrupted(source, WANTED[:1], tmp_path / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_corrupted(source, WANTED[:1], tmp_path / "file")


def test_names_that_would_collide(tmp_path: Path) -> None:
    """Listed images `x.png` and `../x.png`: above the root, nothing is ever written."""
    for folder in (tmp_path, tmp_path / "root"):
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "x.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "root/label.png")
    (tmp_path / "root/list.txt").write_text("x.png label.png\n../x.png label.png\n")
    content = {"layout": "folders", "list_file": "list.txt", "classes": ["road"], "root": "root"}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"'x' and '\.\./x' would both be written to 'x\.png'"):
        write_corrupted(tmp_path / "data.yaml", WANTED, tmp_path / "c")
    (tmp_path / "root/list.txt").write_text("../x.png label.png\n")
    write_corrupted(tmp_path / "data.yaml", [("fog", 3)], tmp_path / "c")
    assert (tmp_path / "c/fog/3/x.png").is_file()
