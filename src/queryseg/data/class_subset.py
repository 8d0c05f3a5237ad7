"""Layout `class_subset`: another data set's images with some classes, and of their labels only some classes'.

Shape legend: N images, K classes, H×W pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from queryseg.data.conversion_cache import cache_folder, file_identity
from queryseg.data.data_file import data_settings, open_data
from queryseg.data.dataset import (
    FileBacked,
    Problem,
    SegmentationDataset,
    layout_and_split,
    read_label_map,
    sample_name,
)
from queryseg.data.rare_classes import class_pixel_counts
from queryseg.errors import InputError
from queryseg.types import IGNORE, Sample


class ClassSubset(SegmentationDataset):
    """What one step of a continual run sees of a data set.

    layout: class_subset
    data: {layout: ade20k, root: ADEChallengeData2016, split: train}
    containing: [100, 101]
    labelled: [100, 101]

    data        data file, or its content
    root        folder that relative paths of `data` start from
    containing  label ids: only images with a pixel of one of these; None: all images
    without     label ids: only images without any pixel of these
    labelled    label ids that stay; all other pixels become 255, and their objects disappear. None: all
    balanced    only so many of these images: the classes of `containing` take turns, each with one that is not there
                yet, so that a smaller number is a part of a larger one; None: all
    seed        of which images come first

    The class table stays whole, so that label ids mean the same in every step. Which image has which class is found
    out once and kept, see `present_classes`.

    Raises: InputError
    """

    def __init__(
        self,
        data: str | Mapping[str, Any],
        root: str | Path = ".",
        containing: Sequence[int] | None = None,
        without: Sequence[int] = (),
        labelled: Sequence[int] | None = None,
        balanced: int | None = None,
        seed: int = 0,
    ) -> None:
        source = data if isinstance(data, Mapping) else Path(root) / data
        relative_to = root if isinstance(data, Mapping) else None
        self.dataset = open_data(source, relative_to=relative_to)
        self.name, self.classes = self.dataset.name, self.dataset.classes
        self.layout, self.split = layout_and_split(self.dataset)
        for option, labels in (("containing", containing), ("without", without), ("labelled", labelled)):
            if strange := [label for label in labels or () if not 0 <= label < len(self.classes)]:
                raise InputError(
                    f"'{option}' holds {strange[0]}, but the labels of '{self.classes.name}' are 0 to "
                    f"{len(self.classes) - 1}."
                )
        self.indices = list(range(len(self.dataset)))
        self._source = source, relative_to
        if containing is not None or without:
            present = self.present
            kept = ~present[:, list(without)].any(1)
            if containing is not None:
                kept &= present[:, list(containing)].any(1)
            self.indices = [index for index, keep in zip(self.indices, kept.tolist(), strict=True) if keep]
        if balanced is not None:
            self.indices = self._balanced(containing or range(len(self.classes)), balanced, seed)
        self._labels = torch.full((256,), IGNORE, dtype=torch.uint8)
        stay = list(range(len(self.classes))) if labelled is None else list(labelled)
        self._labels[stay] = torch.tensor(stay, dtype=torch.uint8)

    @property
    def present(self) -> Tensor:
        """(N, K) bool: the class has a pixel in the image, whether its label stays or not."""
        return present_classes(self.dataset, *self._source)[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[self.indices[index]]
        label_map, instance_map = self._labels[sample.label_map.long()], sample.instance_map
        if instance_map is not None:
            instance_map = instance_map.masked_fill(label_map == IGNORE, 0)
        return replace(sample, label_map=label_map, instance_map=instance_map)

    def sample_name(self, index: int) -> str:
        return sample_name(self.dataset, self.indices[index])

    def read_label_map(self, index: int) -> Tensor:
        return self._labels[read_label_map(self.dataset, self.indices[index]).long()]

    def problems(self) -> Sequence[Problem]:
        return self.dataset.problems() if isinstance(self.dataset, FileBacked) else ()

    def _balanced(self, labels: Sequence[int], number: int, seed: int) -> list[int]:
        order = np.random.default_rng(seed).permutation(len(self.indices)).tolist()
        present = self.present[order]
        waiting = [deque(present[:, label].nonzero().flatten().tolist()) for label in labels]
        kept: dict[int, None] = {}  # a set that keeps its order
        while len(kept) < number and any(waiting):
            for places in waiting:
                while places and places[0] in kept:
                    places.popleft()
                if places and len(kept) < number:
                    kept[places.popleft()] = None
        return [self.indices[order[place]] for place in kept]


def present_classes(
    dataset: SegmentationDataset, source: Any, relative_to: str | Path | None = None, num_workers: int = 0
) -> Tensor:
    """(N, K) bool: the class has a pixel in the image. Every label is read once and the result kept; it belongs to the
    data settings and, of files, to their sizes and times of change."""
    settings = data_settings(source, relative_to=relative_to)
    about = [settings.layout, {key: str(value) for key, value in settings.complete().items()}]
    files = getattr(dataset, "files", None)
    times = [] if files is None else [file_identity(files(index)[1]) for index in range(len(dataset))]
    key = hashlib.sha256(json.dumps([about, times], default=str).encode()).hexdigest()[:32]
    folder = cache_folder() / "conversions" / "class_pixels-1"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache = folder / f"{key}.json"
        return class_pixel_counts(dataset, num_workers, cache) > 0
    except OSError:  # the folder cannot be written: counted every time
        return class_pixel_counts(dataset, num_workers) > 0
