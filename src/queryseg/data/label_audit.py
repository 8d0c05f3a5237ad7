"""What becomes of every label of a data set, with a place to look at for each: a wrong mapping is seen, not computed.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from queryseg.data.class_table import ClassTable
from queryseg.data.dataset import RawLabel, RawLabelled, SegmentationDataset
from queryseg.data.ordered_map import ordered_map
from queryseg.errors import InputError
from queryseg.types import IGNORE

UNLABELLED = RawLabel("no label", (0, 0, 0), IGNORE)
"""What raw values stand for that the data set's own table does not have."""


@dataclass
class LabelUse:
    """One label of the data set.

    value    in `RawLabelled.read_raw_labels`
    raw      its name there and the class that it becomes
    pixels   in the samples that were read
    samples  that have it
    largest  index of the sample that has most of it, or None if none has
    """

    value: int
    raw: RawLabel
    pixels: int = 0
    samples: int = 0
    largest: int | None = None


@dataclass(frozen=True)
class LabelAudit:
    """All labels of a data set, those first that come first in its table.

    num_read  samples that were read, evenly spaced
    pixels    in all of them
    """

    name: str
    classes: ClassTable
    uses: tuple[LabelUse, ...]
    num_samples: int
    num_read: int
    pixels: int

    def of_class(self, label: int) -> list[LabelUse]:
        """The labels that become a class (or 255), most pixels first."""
        return sorted((use for use in self.uses if use.raw.label == label), key=lambda use: -use.pixels)

    def class_name(self, label: int) -> str:
        return "ignored" if label == IGNORE else self.classes.names[label]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        uses = [
            {**asdict(use), "class": self.class_name(use.raw.label), "share": use.pixels / max(1, self.pixels)}
            for use in self.uses
        ]
        return {"name": self.name, "classes": list(self.classes.names), "num_read": self.num_read, "labels": uses}


def audit_labels(
    dataset: SegmentationDataset,
    num_samples: int = 200,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LabelAudit:
    """Read so many label files, evenly spaced, and count every label before it is mapped.

    Raises: InputError if the data set does not map labels
    """
    if not isinstance(dataset, RawLabelled):
        raise InputError(
            f"Data set '{dataset.name}' has no labels but its classes, so there is no mapping to look at; --audit is "
            "for layouts that read files."
        )
    num_read = min(num_samples, len(dataset))
    indices = [i * len(dataset) // num_read for i in range(num_read)]
    uses = {value: LabelUse(value, raw) for value, raw in dataset.raw_labels().items()}
    best: dict[int, int] = {}
    total = 0
    counted = ordered_map(partial(_counts, dataset, indices), num_read, num_workers, progress)
    for index, counts in zip(indices, counted, strict=True):
        for value, pixels in counts.items():
            use = uses.setdefault(value, LabelUse(value, UNLABELLED))
            use.pixels += pixels
            use.samples += 1
            total += pixels
            if pixels > best.get(value, 0):
                best[value], use.largest = pixels, index
    return LabelAudit(dataset.name, dataset.classes, tuple(uses.values()), len(dataset), num_read, total)


def _counts(dataset: RawLabelled, indices: list[int], place: int) -> Mapping[int, int]:
    values: npt.NDArray[np.integer] = dataset.read_raw_labels(indices[place]).numpy()
    if values.max() < 2**16:  # counting is much faster than sorting
        pixels = np.bincount(values.ravel())
        found = np.flatnonzero(pixels)
        return dict(zip(found.tolist(), pixels[found].tolist(), strict=True))
    found, pixels = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), pixels.tolist(), strict=True))
