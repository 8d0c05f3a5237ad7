"""Layout class_subset: which images stay, and which labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from queryseg.data.class_subset import present_classes
from queryseg.data.data_file import open_data
from queryseg.data.dataset import read_label_map, sample_name
from queryseg.data.rare_classes import class_pixel_counts
from queryseg.errors import InputError
from queryseg.types import IGNORE

LABELS = {"a": [0, 1], "b": [1, 2], "c": [2, 255], "d": [0, 2]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYSEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> dict[str, object]:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, labels in LABELS.items():
        Image.fromarray(np.zeros((1, 2, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(np.array([labels], np.uint8)).save(tmp_path / "labels" / f"{name}.png")
    return {"layout": "folders", "root": str(tmp_path), "classes": ["sky", "road", "car"]}


def names(dataset) -> list[str]:
    return [sample_name(dataset, index) for index in range(len(dataset))]


def test_images_with_a_class_and_without_others(source):
    """Overlapped: all that show class 1. Disjoint: none of those with class 2."""

    def chosen(**options: object) -> list[str]:
        return names(open_data({"layout": "class_subset", "data": source, **options}))

    assert chosen() == ["a", "b", "c", "d"]
    assert chosen(containing=[1]) == ["a", "b"]
    assert chosen(containing=[1], without=[2]) == ["a"]
    assert chosen(containing=[0, 1], without=[2]) == ["a"]
    assert chosen(containing=[]) == []


def test_few_images_are_chosen_so_that_classes_take_turns(source):
    """One image per class first, and a smaller choice is a part of a larger one."""
    for seed in range(4):
        options = {"layout": "class_subset", "data": source, "containing": [0, 1], "seed": seed}
        chosen = [open_data({**options, "balanced": number}) for number in (1, 2, 3, 9)]
        assert [len(dataset) for dataset in chosen] == [1, 2, 3, 3]
        assert "c" not in names(chosen[3])
        assert names(chosen[3])[:2] == names(chosen[1])
        assert names(chosen[1])[:1] == names(chosen[0])
        assert chosen[1].present[0, 0]
        assert chosen[1].present[1, 1]


def test_other_labels_are_removed_and_the_class_table_stays(source):
    dataset = open_data({"layout": "class_subset", "data": source, "containing": [2], "labelled": [2]})
    assert dataset.classes.names == ("sky", "road", "car")
    assert [dataset[i].label_map.flatten().tolist() for i in range(3)] == [[IGNORE, 2], [2, IGNORE], [IGNORE, 2]]
    assert read_label_map(dataset, 0).flatten().tolist() == [IGNORE, 2]
    assert dataset.layout == "folders"


def test_objects_of_removed_classes_disappear():
    """Streets: instance numbers are left on the cars alone; nothing else changes."""
    streets = {"layout": "streets", "num_images": 2, "size": [48, 96]}
    car, whole = 13, open_data(streets)
    kept = open_data({"layout": "class_subset", "data": streets, "labelled": [car]})
    for i in range(2):
        cars = whole[i].label_map == car
        assert torch.equal(kept[i].label_map == car, cars)
        assert (kept[i].label_map[~cars] == IGNORE).all()
        assert torch.equal(kept[i].instance_map[cars], whole[i].instance_map[cars])
        assert (kept[i].instance_map[~cars] == 0).all()
        assert torch.equal(kept[i].image, whole[i].image)


def test_labels_are_read_once_until_a_file_changes(source, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "queryseg.data.class_subset.class_pixel_counts",
        lambda dataset, workers, cache: calls.append(cache.exists()) or class_pixel_counts(dataset, workers, cache),
    )
    for _ in range(2):
        found = present_classes(open_data(source), source)
    assert found.tolist() == [[True, True, False], [False, True, True], [False, False, True], [True, False, True]]
    Image.fromarray(np.array([[2, 2]], np.uint8)).save(tmp_path / "labels" / "a.png")
    assert present_classes(open_data(source), source)[0].tolist() == [False, False, True]
    assert calls == [False, True, False]


def test_a_data_file_is_found_from_the_root(source, tmp_path):
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({k: v for k, v in source.items() if k != "root"}))
    dataset = open_data({"layout": "class_subset", "root": str(tmp_path), "data": "data.yaml", "containing": [0]})
    assert names(dataset) == ["a", "d"]


def test_what_does_not_fit_is_one_sentence(source):
    with pytest.raises(InputError, match="'containing' holds 3, but the labels of 'custom' are 0 to 2"):
        open_data({"layout": "class_subset", "data": source, "containing": [3]})
