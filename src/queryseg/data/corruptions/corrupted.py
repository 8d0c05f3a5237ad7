"""A data set whose images are corrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from queryseg.data.corruptions.registry import CORRUPTIONS, check_severity, corrupt
from queryseg.data.dataset import (
    FileBacked,
    Problem,
    SegmentationDataset,
    layout_and_split,
    read_label_map,
    sample_name,
)
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean
from queryseg.types import Sample


class Corrupted(SegmentationDataset):
    """The samples of `dataset`, their images corrupted when they are asked for; labels and names stay.

    An image depends on its name, the corruption and the severity alone, not on its place, the process or what was read
    before. The data set's name becomes e.g. "cityscapes/fog-3". Raises: InputError
    """

    def __init__(self, dataset: SegmentationDataset, corruption: str, severity: int) -> None:
        if corruption not in CORRUPTIONS:
            raise InputError(f"There is no corruption '{corruption}'.{did_you_mean(corruption, CORRUPTIONS)}")
        check_severity(severity, corruption)
        self.dataset, self.corruption, self.severity = dataset, corruption, severity
        self.name, self.classes = corrupted_name(dataset.name, corruption, severity), dataset.classes
        self.layout, self.split = layout_and_split(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return replace(sample, image=corrupt(sample.image, self.corruption, self.severity, sample.name))

    def sample_name(self, index: int) -> str:
        return sample_name(self.dataset, index)

    def read_label_map(self, index: int) -> Tensor:
        return read_label_map(self.dataset, index)

    def problems(self) -> Sequence[Problem]:
        return self.dataset.problems() if isinstance(self.dataset, FileBacked) else ()


def corrupted_name(dataset: str, corruption: str, severity: int) -> str:
    """What a corrupted data set is called in tables."""
    return f"{dataset}/{corruption}-{severity}"
