"""Layout `shards`: labelled images in few large tar files, as `write_shards` makes them, for clusters.

The tars are WebDataset's: the files of a sample stand together and share a key, `00000012.jpg`, `00000012.label.png`,
`00000012.instance.png` (if the data set tells objects apart) and `00000012.meta.json` (its name); so every WebDataset
reader takes them. Beside them, index.json tells where every file lies: a sample is read by one seek, without looking
through its tar, so evaluation and exact resume work as with folders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from queryseg.data.archive import ArchivedFile, Location
from queryseg.data.class_table import class_table
from queryseg.data.dataset import Problem, SegmentationDataset
from queryseg.data.image_file import read_image, read_label
from queryseg.data.label_map import LabelMap
from queryseg.errors import InputError
from queryseg.types import Sample

INDEX = "index.json"
FORMAT = 1


class Shards(SegmentationDataset):
    """Tar shards in a folder with their index.

    root     folder that `queryseg data shard` wrote
    name     of the data set in tables; None: that of the data set that the shards were made of
    shuffle  order of training: "shards" reads a few of them at a time, each from its begin to its end but for the order
             of samples (see `StepBatchSampler`); "samples" mixes all samples, as every other layout does. Both depend
             on seed and step alone, so a run resumes exactly.

    Raises: InputError if the index is missing or damaged, or a shard is missing or has another size than it should
    """

    def __init__(
        self, root: str | Path, name: str | None = None, shuffle: Literal["shards", "samples"] = "shards"
    ) -> None:
        self.root = Path(root)
        if shuffle not in ("shards", "samples"):
            raise InputError(f"'shuffle' is {shuffle!r}; choose 'shards' or 'samples'.")
        index = read_index(self.root)
        try:
            self.name = name or str(index["name"])
            self.classes = class_table(index["classes"])
            self.layout, self.split = index["made_of"]["layout"], index["split"]
            self._samples = [
                _SampleFiles.of(self.root / shard["file"], sample)
                for shard in index["shards"]
                for sample in shard["samples"]
            ]
            sizes = {str(shard["file"]): int(shard["bytes"]) for shard in index["shards"]}
            shard_sizes = [len(shard["samples"]) for shard in index["shards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.root, error) from error
        self.shard_sizes = shard_sizes if shuffle == "shards" else None
        self._labels = LabelMap.parse("identity", self.classes)
        for file, size in sizes.items():
            _check_shard(self.root / file, size)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        files = self._samples[index]
        image, label_map = read_image(files.image), self.read_label_map(index)
        instances = None
        if files.instances is not None:
            instances = torch.from_numpy(read_label(files.instances).astype("int32"))
        return Sample(image, label_map, files.name, instances)

    def read_label_map(self, index: int) -> Tensor:
        file = self._samples[index].label
        return self._labels.apply(read_label(file), file)

    def sample_name(self, index: int) -> str:
        return self._samples[index].name

    def files(self, index: int) -> tuple[ArchivedFile, ArchivedFile]:
        """Image and label file of a sample."""
        return self._samples[index].image, self._samples[index].label

    def problems(self) -> tuple[Problem, ...]:
        return ()

    @staticmethod
    def made_of(root: str | Path) -> dict[str, Any]:
        """The identity of the data set that shards were made of (see `DataIdentity.to_json`). Raises: InputError"""
        try:
            return dict(read_index(Path(root))["made_of"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(Path(root), error) from error


class _SampleFiles:
    """A sample's name, and its files in one shard. Slots: there may be a million."""

    __slots__ = ("image", "instances", "label", "name")

    def __init__(self, name: str, image: ArchivedFile, label: ArchivedFile, instances: ArchivedFile | None) -> None:
        self.name, self.image, self.label, self.instances = name, image, label, instances

    @classmethod
    def of(cls, shard: Path, entry: dict[str, Any]) -> _SampleFiles:
        """entry: name, and [member, offset, size] of image, label and, if there are any, instances."""

        def file(kind: str) -> ArchivedFile:
            member, offset, size = entry[kind]
            return ArchivedFile(shard, member, Location(offset, size, size))

        return cls(entry["name"], file("image"), file("label"), file("instance") if "instance" in entry else None)


def read_index(root: Path) -> dict[str, Any]:
    """index.json of shards. Raises: InputError"""
    if "://" in str(root) or ":/" in str(root):
        raise InputError(f"Shards are read from a folder, but given is '{root}'; copy or mount them first.")
    path = root / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"There are no shards in '{root}': no {INDEX}; write them with `queryseg data shard`."
        ) from None
    except (OSError, ValueError) as error:
        raise _damaged(root, error) from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise InputError(
            f"'{path}' is no index of shards that this version reads; write them with `queryseg data shard`."
        )
    return index


def _check_shard(path: Path, size: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise InputError(f"Shard '{path}' cannot be read ({error.strerror}); copy it again.") from error
    if found != size:
        raise InputError(f"Shard '{path}' has {found:,} bytes where {size:,} are expected; copy it again.")


def _damaged(root: Path, error: Exception) -> InputError:
    return InputError(f"'{root / INDEX}' cannot be read ({type(error).__name__}: {error}); write the shards again.")
