"""The one explicit map from the values of label files to classes.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from queryseg.data.class_table import CITYSCAPES_IDS, ClassTable, Color, as_color
from queryseg.data.image_file import LabelArray, LabelKind, pack_color
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean
from queryseg.types import IGNORE

PRESETS = ("identity", "cityscapes_ids", "cityscapes_train_ids")

_UNKNOWN = IGNORE - 1  # ClassTable leaves this label free
_MAX_ID = 2**16 - 1


class UnknownLabelsError(InputError):
    """A label file with values that its map does not name. `counts`: value as the user writes it → pixels."""

    counts: Mapping[str, int] = MappingProxyType({})  # set afterwards: DataLoader rebuilds errors from their text alone


class LabelMap:
    """Values of a label file → class indices, 255 = ignored. Every value that may occur is named; others are refused.

    kind    "ids" (grey or palette files) or "colors" (RGB files): what `read_label` must deliver
    labels  value (id, or color as `pack_color` gives) → class index or 255
    """

    def __init__(self, kind: LabelKind, labels: Mapping[int, int]) -> None:
        self.kind = kind
        self.labels = dict(labels)

    @classmethod
    def parse(cls, source: str | Mapping[str, object], classes: ClassTable) -> LabelMap:
        """From a data file.

        "identity"                                           values are class indices already, 255 is ignored
        "cityscapes_ids", "cityscapes_train_ids"             the official tables (ids 0..33; trainIds 0..18)
        {road: 7, vehicle: [26, 27, 28], ignore: [0, 255]}   ids of each class; several ids merge
        {road: [[128, 64, 128]], ignore: [[0, 0, 0]]}        colors of each class, in RGB files
        {preset: identity, ignore: [11]}                     a preset and further ignored ids

        Names are those of the class table. InputError if a name is unknown, a value occurs twice, or 255 is given to a
        class (it is never one).
        """
        if isinstance(source, str):
            return cls("ids", _preset(source, classes))
        if not isinstance(source, Mapping) or not source:
            raise InputError(
                f"'label_map' is {source!r}; give one of {', '.join(PRESETS)}, or class names with their ids."
            )
        labels: dict[int, int] = {}
        if "preset" in source:
            if wrong := [key for key in source if key not in ("preset", "ignore")]:
                raise InputError(f"'label_map' has a preset and '{wrong[0]}'; beside 'preset' only 'ignore' may stand.")
            labels = _preset(str(source["preset"]), classes)
        colored: set[bool] = {False} if labels else set()
        for name, values in source.items():
            if name == "preset":
                continue
            label = _label(name, classes)
            for value in values if isinstance(values, Sequence) else [values]:
                key = _key(value, name)
                colored.add(isinstance(value, Sequence))
                if len(colored) == 2:
                    raise InputError("'label_map' mixes ids and colors; give either, as its files hold either.")
                if value == IGNORE and label != IGNORE:
                    raise InputError(
                        f"'label_map' gives id 255 to class '{name}', but 255 is never a class; ignore it."
                    )
                if labels.get(key, label) != label or (key in labels and "preset" not in source):
                    raise InputError(
                        f"'label_map' names {value} twice, at last under '{name}'; every value has one meaning."
                    )
                labels[key] = label
        return cls("colors" if True in colored else "ids", labels)

    def apply(self, values: LabelArray, path: object) -> Tensor:
        """Values (H, W) as `read_label` gives them → (H, W) uint8. UnknownLabelsError naming file and values.

        path  what messages call the file
        """
        if values.dtype == np.uint8 and self.kind == "ids":
            # translate() runs at memory speed, several times faster than indexing
            mapped = bytearray(values.tobytes()).translate(self._byte_table)
        else:
            mapped = bytearray(self._wide_table[values].tobytes())
        if _UNKNOWN in mapped:
            raise self._unknown(values, np.frombuffer(mapped, np.uint8).reshape(values.shape) == _UNKNOWN, path)
        return torch.frombuffer(mapped, dtype=torch.uint8).view(values.shape)

    @cached_property
    def _byte_table(self) -> bytes:
        return bytes(self.labels.get(value, _UNKNOWN) for value in range(256))

    @cached_property
    def _wide_table(self) -> npt.NDArray[np.uint8]:
        table = np.full(2**16 if self.kind == "ids" else 2**24, _UNKNOWN, np.uint8)
        table[list(self.labels)] = list(self.labels.values())
        return table

    def __getstate__(self) -> dict[str, object]:
        return {"kind": self.kind, "labels": self.labels}  # 16 MB of table are rebuilt faster than sent to a worker

    def _unknown(self, values: LabelArray, where: npt.NDArray[np.bool_], path: object) -> UnknownLabelsError:
        found, num_pixels = np.unique(values[where], return_counts=True)
        counts = {self._written(int(v)): int(n) for v, n in zip(found, num_pixels, strict=True)}
        shown = ", ".join(f"{value} ({n} pixels)" for value, n in list(counts.items())[:8])
        more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
        error = UnknownLabelsError(
            f"Label '{path}' has values outside the label map: {shown}{more}; name them in 'label_map' under a class "
            "or 'ignore'."
        )
        error.counts = counts
        return error

    def _written(self, value: int) -> str:
        return str(value) if self.kind == "ids" else str([value & 255, value >> 8 & 255, value >> 16])


def pixels_per_label(label_map: Tensor) -> Tensor:
    """(H, W) uint8 → (256,) int64, the pixels of every label."""
    return torch.bincount(label_map.flatten(), minlength=256)


def _preset(name: str, classes: ClassTable) -> dict[int, int]:
    if name not in PRESETS:
        raise InputError(f"There is no label map '{name}'.{did_you_mean(name, PRESETS)}")
    if name == "identity":
        return {**{i: i for i in range(len(classes))}, IGNORE: IGNORE}
    if len(classes) != 19:
        raise InputError(
            f"Label map '{name}' is for the 19 classes of 'cityscapes', but '{classes.name}' has {len(classes)}."
        )
    train_ids = {label for label in CITYSCAPES_IDS.values() if label != IGNORE}
    # 255 in label ids is the license plate's -1, wrapped to 8 bits.
    return {**(CITYSCAPES_IDS if name == "cityscapes_ids" else {i: i for i in train_ids}), IGNORE: IGNORE}


def _label(name: object, classes: ClassTable) -> int:
    if name == "ignore":
        return IGNORE
    if name not in classes.names:
        known = ("ignore", *classes.names)
        raise InputError(
            f"'label_map' names class '{name}', which is not in '{classes.name}'.{did_you_mean(name, known)}"
        )
    return classes.names.index(str(name))


def _key(value: object, name: object) -> int:
    if isinstance(value, Sequence) and not isinstance(value, str):
        color: Color = as_color(value)
        return pack_color(color)
    if type(value) is int and 0 <= value <= _MAX_ID:
        return value
    raise InputError(f"'label_map' gives {value!r} to '{name}'; ids are whole numbers from 0 to {_MAX_ID}.")
