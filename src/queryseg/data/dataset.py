"""What every labelled data set is, and what those that read files can tell besides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import Dataset

from queryseg.data.class_table import ClassTable, Color
from queryseg.types import Sample


class SegmentationDataset(Dataset[Sample], ABC):
    """Labelled images by number. Anything with these four members will do.

    name     short, for tables and reports
    classes  what the values of every `Sample.label_map` mean

    `open_data` adds what the data file says, for protocols and reports:

    layout   None: not opened from a data file
    split    None: it has none
    """

    name: str
    classes: ClassTable
    layout: str | None = None
    split: str | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample at 0 ≤ index < len; InputError naming the file if it cannot be used."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set: `kind` groups it in reports, `message` is the whole sentence."""

    kind: str
    name: str
    message: str


@runtime_checkable
class FileBacked(Protocol):
    """Offered by data sets that read files."""

    def sample_name(self, index: int) -> str:
        """The name of a sample, without reading it."""
        ...

    def read_label_map(self, index: int) -> Tensor:
        """(H, W) uint8, without reading the image."""
        ...

    def problems(self) -> Sequence[Problem]:
        """What is wrong with the data set as a whole, without reading its samples."""
        ...


@dataclass(frozen=True)
class RawLabel:
    """A label as a data set itself has it: its name and colour there, and the class index (or 255) that it becomes."""

    name: str
    color: Color
    label: int


@runtime_checkable
class RawLabelled(Protocol):
    """Offered by data sets whose labels are mapped to classes."""

    def raw_labels(self) -> Mapping[int, RawLabel]:
        """Value of `read_raw_labels` → what it stands for."""
        ...

    def read_raw_labels(self, index: int) -> Tensor:
        """(H, W) integers before they are mapped."""
        ...


@runtime_checkable
class Noted(Protocol):
    """Offered by data sets about which there is something to know besides their samples."""

    def notes(self) -> Sequence[str]:
        """Whole sentences, for `data check` and reports."""
        ...


def sample_name(dataset: SegmentationDataset, index: int) -> str:
    """What errors and reports call a sample that may be unreadable."""
    return dataset.sample_name(index) if isinstance(dataset, FileBacked) else f"{dataset.name}[{index}]"


def layout_and_split(dataset: SegmentationDataset) -> tuple[str | None, str | None]:
    """As the data file says; None for what it does not, and for objects that only look like a data set."""
    return getattr(dataset, "layout", None), getattr(dataset, "split", None)


def read_label_map(dataset: SegmentationDataset, index: int) -> Tensor:
    """(H, W) uint8, as cheaply as the data set allows."""
    return dataset.read_label_map(index) if isinstance(dataset, FileBacked) else dataset[index].label_map
