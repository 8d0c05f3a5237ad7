"""How a data set stores its labels: where the files are, how they are read, and what their values mean.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.coco_panoptic import CocoPanoptic, SegmentInfo, read_segment_ids, to_maps
from queryseg.data.conversion_cache import ConversionCache
from queryseg.data.file_tree import DataFile, FileTree
from queryseg.data.image_file import LabelKind, read_label
from queryseg.data.label_map import LabelMap
from queryseg.data.layouts.polygons import POLYGONS_VERSION, rasterise
from queryseg.data.path_pattern import PathPattern
from queryseg.errors import InputError
from queryseg.types import IGNORE

Keys = npt.NDArray[Any]
"""(H, W) integers: equal where pixels belong to one object of a class, 0 where no object is told apart."""


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Label files with one value per pixel.

    name        value of the data file's key `labels`
    images      pattern (see `PathPattern`) of the images that belong to these labels
    labels      pattern of the label files
    objects     pattern of the files that tell objects apart, if there are any
    table       class table of the labels
    values      value in a file → class index in `table`, or 255; None: they are equal, and 255 is ignored
    kind        what the values are: ids, or packed colours
    channel     of files that keep ids in one channel of several
    pair_by     "path": images and labels belong together if all of `{name}` is equal; "file": its last part
    unverified  what of this was not confirmed by the data set's own files or by tools that read it, or None
    """

    name: str
    images: str
    labels: str
    table: str
    objects: str | None = None
    values: Mapping[int, int] | None = None
    kind: LabelKind = "ids"
    channel: int | None = None
    pair_by: Literal["path", "file"] = "path"
    unverified: str | None = None

    @property
    def classes(self) -> ClassTable:
        return class_table(self.table)

    def bind(self, tree: FileTree, fields: Mapping[str, str | None]) -> LabelSource:
        """With what stands in files of the data set beside the label files; `fields` are put into patterns."""
        return self

    def label_map(self, mapping: tuple[int, ...]) -> LabelMap:
        """Values in files → classes, for a mapping of `classes` to them."""
        values = self.values
        if values is None:
            values = {**{label: label for label in range(len(self.classes))}, IGNORE: IGNORE}
        return LabelMap(self.kind, {v: IGNORE if raw == IGNORE else mapping[raw] for v, raw in values.items()})

    def fits(self, label: DataFile) -> bool:
        """Whether a file found under the pattern is of this kind."""
        return True

    def read(self, label: DataFile, label_map: LabelMap) -> Tensor:
        """(H, W) uint8 class indices, 255 = ignored. InputError naming the file."""
        return label_map.apply(read_label(label, self.kind, self.channel), label)

    def read_objects(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> Keys | None:
        """None if these files tell no objects apart."""
        return None

    def read_both(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> tuple[Tensor, Keys | None]:
        """What `read` and `read_objects` give; where both are in one file, it is read once."""
        return self.read(label, label_map), self.read_objects(label, objects, label_map)


@dataclass(frozen=True, kw_only=True)
class PolygonSource(LabelSource):
    """Cityscapes' `_polygons.json`, drawn when they are read and kept in a cache.

    skipped  labels that are not drawn, so that what lies under them stays
    """

    skipped: frozenset[str] = frozenset()
    cache: ConversionCache | None = field(default=None, compare=False)

    def bind(self, tree: FileTree, fields: Mapping[str, str | None]) -> LabelSource:
        return replace(self, cache=ConversionCache(f"polygons-{self.table}", POLYGONS_VERSION))

    def read(self, label: DataFile, label_map: LabelMap) -> Tensor:
        return self.read_both(label, None, label_map)[0]

    def read_both(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> tuple[Tensor, Keys]:
        assert self.cache is not None
        drawn = self.cache.get(label, lambda file: rasterise(file, self.classes, self.skipped))
        return label_map.apply(drawn["labels"].astype(np.uint8, copy=False), label), drawn["objects"]


@dataclass(frozen=True, kw_only=True)
class PanopticSource(LabelSource):
    """COCO's panoptic format: PNG files of segment ids, and one JSON per split.

    index     pattern of the JSON
    segments  what the JSON says of each PNG, by its file name
    """

    index: str
    segments: Mapping[str, tuple[SegmentInfo, ...]] = field(default_factory=dict, compare=False)

    def bind(self, tree: FileTree, fields: Mapping[str, str | None]) -> LabelSource:
        content = CocoPanoptic.read(tree.file(PathPattern(self.index).fill(**fields).text))
        segments = {image.label_name: image.segments for image in content.images}
        return replace(self, values=content.labels(self.classes), segments=segments)

    def read(self, label: DataFile, label_map: LabelMap) -> Tensor:
        return self.read_both(label, None, label_map)[0]

    def read_both(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> tuple[Tensor, Keys]:
        if label.name not in self.segments:
            raise InputError(f"'{label}' is not in the data set's JSON; PNG and JSON must be of one download.")
        things = frozenset(
            label_map.labels[category] for category, raw in (self.values or {}).items() if raw in self.classes.things
        ) - {IGNORE}
        segments = self.segments[label.name]
        labels, numbers = to_maps(read_segment_ids(label), segments, label_map.labels, things, str(label))
        return labels, numbers.numpy()


def number_objects(keys: Keys, label_map: Tensor, things: frozenset[int]) -> Tensor:
    """Keys of objects → (H, W) int32 as `Sample.instance_map` has it: 1 … on things, 0 for crowds and everywhere else.

    label_map  (H, W) uint8 class indices; an object that has pixels of two classes becomes two
    """
    labels = label_map.numpy()
    where = np.isin(np.arange(256), list(things))[labels] & (keys > 0)
    _, numbers = np.unique(keys[where].astype(np.int64) * 256 + labels[where], return_inverse=True)
    instance_map = np.zeros(labels.shape, np.int32)
    instance_map[where] = numbers.reshape(-1) + 1
    return torch.from_numpy(instance_map)
