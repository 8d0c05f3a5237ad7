import dataclasses

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from queryseg.data.batch import collate
from queryseg.data.sampling import DrawnSample
from queryseg.errors import InputError
from queryseg.types import Sample


def sample(labels: list[int], name: str = "a") -> Sample:
    label_map = torch.tensor([labels], dtype=torch.uint8)
    return Sample(torch.zeros(3, 1, len(labels), dtype=torch.uint8), label_map, name)


def test_collate() -> None:
    batch = collate([sample([0, 2, 255, 2]), sample([255] * 4, "b")])
    assert batch.images.shape == (2, 3, 1, 4)
    assert batch.label_maps.shape == (2, 1, 4)
    assert batch.images.dtype == batch.label_maps.dtype == torch.uint8
    assert [labels.tolist() for labels in batch.labels] == [[0, 2], []]
    assert batch.names == ["a", "b"]
    assert batch.positions == []
    drawn = DrawnSample(**dataclasses.asdict(sample([0])), position=41)
    assert collate([drawn]).positions == [41]


def test_targets_have_one_segment_per_class() -> None:
    target, empty = collate([sample([0, 2, 255, 2]), sample([255] * 4)]).targets()
    assert target.labels.tolist() == [0, 2]
    assert target.labels.dtype == torch.int64
    assert target.masks.tolist() == [[[True, False, False, False]], [[False, True, False, True]]]
    assert target.label_map.tolist() == [[0, 2, 255, 2]]
    assert empty.masks.shape == (0, 1, 4)


def objects(labels: list[int], instances: list[int], name: str = "a") -> Sample:
    return dataclasses.replace(sample(labels, name), instance_map=torch.tensor([instances], dtype=torch.int32))


def test_panoptic_targets_have_one_segment_per_object_and_class_of_stuff() -> None:
    """Class 2 is a thing: two objects and a crowd, which is ignored; an object that a crop has lost is no target."""
    samples = [objects([0, 2, 2, 2, 255], [0, 4, 7, 0, 0]), objects([0] * 5, [0] * 5)]
    batch = collate(samples, "panoptic", frozenset({2}))
    target, stuff = batch.targets()
    assert target.labels.tolist() == [0, 2, 2]
    assert target.masks.int().tolist() == [[[1, 0, 0, 0, 0]], [[0, 1, 0, 0, 0]], [[0, 0, 1, 0, 0]]]
    assert target.label_map.tolist() == [[0, 2, 2, 255, 255]]
    assert target.label_map.dtype == target.labels.dtype == torch.int64
    assert stuff.labels.tolist() == [0]
    padded = batch.padded(2, 6).targets()[0]
    assert padded.masks.shape == (3, 2, 6)
    assert padded.masks.sum() == 3
    assert (padded.label_map != 255).sum() == 3


def test_instance_targets_are_objects_alone() -> None:
    """Stuff is no target; an image without objects has none."""
    samples = [objects([0, 2, 2, 2], [0, 4, 4, 0]), objects([0] * 4, [0] * 4)]
    target, nothing = collate(samples, "instance", frozenset({2})).targets()
    assert target.labels.tolist() == [2]
    assert target.masks.int().tolist() == [[[0, 1, 1, 0]]]
    assert target.label_map.tolist() == [[0, 2, 2, 255]]
    assert nothing.masks.shape == (0, 1, 4)


def test_objects_need_instance_maps() -> None:
    with pytest.raises(InputError, match="'a' tell no objects apart"):
        collate([sample([0])], "panoptic", frozenset({0}))


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"'a' \(1, 4\).*'b' \(1, 3\)"):
        collate([sample([0] * 4), sample([0] * 3, "b")])


def test_lightning_can_move_it() -> None:
    moved = move_data_to_device(collate([sample([0, 1])]), torch.device("meta"))
    assert {tensor.device.type for tensor in (moved.images, moved.label_maps, *moved.labels)} == {"meta"}
    assert moved.index_maps is None
    batch = move_data_to_device(collate([objects([0, 1], [0, 1])], "panoptic", frozenset({1})), torch.device("meta"))
    assert batch.index_maps.device.type == "meta"
    assert moved.names == ["a"]
