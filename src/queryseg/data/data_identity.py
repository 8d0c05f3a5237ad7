"""Which images a data file stands for, whatever it calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from queryseg.data.data_file import data_settings, open_data
from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import QuerysegError

_OF_LABELS = ("name", "classes", "label", "unpaired", "mapping", "objects", "shuffle")
"""Options that begin so say what labels mean, how a data set is called and in which order it is read, not which images
it has."""


@dataclass(frozen=True)
class DataIdentity:
    """What decides which images a data set has.

    layout   of the data file; of shards that of the data set that they were made of
    root     resolved; None: the images lie nowhere (they are generated, and named after what they are made of)
    options  all that chooses samples, defaults included, as JSON
    source   the data file or its content, with what it is relative to, to open it if need be
    """

    layout: str
    root: str | None
    options: str
    source: tuple[Any, Any] = ("", None)

    @classmethod
    def of(cls, source: str | Path | Mapping[str, Any], relative_to: str | Path | None = None) -> DataIdentity:
        """Raises: InputError if the data file cannot be read"""
        settings = data_settings(source, relative_to=relative_to)
        options = settings.complete()
        root = options.pop("root", None)
        opened_by = (source, relative_to)
        if root is not None and (made_of := getattr(settings.dataset_class, "made_of", None)) is not None:
            return cls(**made_of(root), source=opened_by)
        chosen = {key: value for key, value in options.items() if not key.startswith(_OF_LABELS)}
        place = None if root is None else str(Path(root).resolve())
        return cls(settings.layout, place, json.dumps(chosen, sort_keys=True, default=str), opened_by)

    def same(self, other: DataIdentity) -> bool:
        """The same images for certain."""
        return self.to_json() == other.to_json()

    def to_json(self) -> dict[str, Any]:
        """What is compared, as plain values."""
        return {"layout": self.layout, "root": self.root, "options": self.options}

    @cached_property
    def names(self) -> frozenset[str] | None:
        """Of all samples; None if the data set cannot be opened here."""
        source, relative_to = self.source
        try:
            return sample_names(open_data(source, relative_to=relative_to))
        except QuerysegError:
            return None


def sample_names(dataset: SegmentationDataset) -> frozenset[str]:
    """Empty for data sets whose samples are only numbered: numbers of two data sets agree without meaning anything."""
    name = getattr(dataset, "sample_name", None)
    return frozenset() if name is None else frozenset(name(index) for index in range(len(dataset)))
