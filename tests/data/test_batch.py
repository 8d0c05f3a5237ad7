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


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"'a' \(1, 4\).*'b' \(1, 3\)"):
        collate([sample([0] * 4), sample([0] * 3, "b")])


def test_lightning_can_move_it() -> None:
    moved = move_data_to_device(collate([sample([0, 1])]), torch.device("meta"))
    assert {tensor.device.type for tensor in (moved.images, moved.label_maps, *moved.labels)} == {"meta"}
    assert moved.names == ["a"]
