"""Some samples of a data set."""

from __future__ import annotations

from collections.abc import Sequence

from queryseg.data.dataset import SegmentationDataset, layout_and_split
from queryseg.types import Sample


class Selection(SegmentationDataset):
    """The samples of `dataset` at `indices`, in that order, under the same name."""

    def __init__(self, dataset: SegmentationDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices
        self.name, self.classes = dataset.name, dataset.classes
        self.layout, self.split = layout_and_split(dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]
