from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from queryseg.data.data_file import open_data
from queryseg.data.folders import Folders
from queryseg.errors import InputError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for folder, pixels in (("images", np.zeros((6, 8, 3), np.uint8)), ("labels", np.zeros((6, 8), np.uint8))):
            (tmp_path / split / folder).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / split / folder / f"{split}.png")
    (tmp_path / "town.yaml").write_text(
        "layout: folders\nimages: '{split}/images'\nlabels: '{split}/labels'\nsplit: train\nclasses: [road, car]\n"
    )
    return tmp_path


def test_folders_relative_to_the_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_data(tree / "town.yaml")
    assert isinstance(dataset, Folders)
    assert dataset.name == "town"
    assert dataset.classes.names == ("road", "car")
    assert dataset[0].name == "train"
    assert open_data(str(tree / "town.yaml"), split="val", name="other")[0].name == "val"
    settings = {"layout": "folders", "root": "val", "classes": ["road"]}
    assert open_data(settings, relative_to=tree)[0].name == "val"
    monkeypatch.chdir(tree)
    assert open_data(settings)[0].name == "val"
    assert settings == {"layout": "folders", "root": "val", "classes": ["road"]}


def test_lenient(tree: Path) -> None:
    Image.new("RGB", (8, 6)).save(tree / "train/images/alone.png")
    with pytest.raises(InputError, match=r"1 image has no label .*alone\.png"):
        open_data(tree / "town.yaml")
    dataset = open_data(tree / "town.yaml", lenient=True)
    assert isinstance(dataset, Folders)
    assert len(dataset) == 1
    assert len(dataset.problems()) == 1
    assert not open_data(tree / "town.yaml", lenient=True, unpaired="skip").problems()  # type: ignore[attr-defined]


def test_streets() -> None:
    dataset = open_data(
        {"layout": "streets", "domain": "fog", "num_images": 3, "seed": 1, "size": [32, 64]}, lenient=True
    )
    assert len(dataset) == 3
    assert len(dataset.classes) == 19
    assert dataset[2].image.shape == (3, 32, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layout: folder\n", "unknown layout 'folder'. Did you mean 'folders'"),
        ("root: .\n", "no 'layout'"),
        ("layout: folders\nimgaes: x\n", "no option 'imgaes'. Did you mean 'images'"),
        ("layout: streets\nroot: .\n", "no option 'root'"),
        ("layout: [\n", "not valid YAML in line"),
        ("just words\n", "holds no settings"),
        ("", "holds no settings"),
        ("layout: folders\nclasses: cityscape\n", "Did you mean 'cityscapes'"),
    ],
)
def test_refused_data_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_data(tmp_path / "a.yaml")


def test_missing_data_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data file '.*none\.yaml'"):
        open_data(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        open_data(tmp_path)
