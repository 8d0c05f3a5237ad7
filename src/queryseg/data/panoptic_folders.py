"""Layout `panoptic_folders`: images, PNGs of segment ids, and a JSON in COCO's panoptic format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.coco_panoptic import CocoPanoptic, PanopticImage, read_segment_ids, to_maps
from queryseg.data.dataset import Problem, SegmentationDataset
from queryseg.data.folders import MismatchedSizesError
from queryseg.data.image_file import read_image
from queryseg.errors import InputError
from queryseg.types import Sample


class PanopticFolders(SegmentationDataset):
    """Any data set in COCO's panoptic format, told by three paths below a root.

    root     folder that all other paths start from
    images   folder that the JSON's image file names start from
    labels   folder that the JSON's PNG file names start from
    index    the JSON
    classes  class table with the names of the JSON's categories (see `class_table`); None: the categories themselves,
             in their order. Which classes are things, the table says.
    name     of the data set in tables; None: the name of the JSON

    Objects are numbered 1 … in the order of `segments_info`; crowds have no number. InputError for everything that
    does not fit.
    """

    def __init__(
        self,
        root: str | Path,
        index: str,
        images: str = "images",
        labels: str = "labels",
        classes: str | Sequence[str] | Mapping[str, object] | ClassTable | None = None,
        name: str | None = None,
    ) -> None:
        self.root = Path(root)
        self.name = name or Path(index).stem
        for key, folder in {"images": images, "labels": labels}.items():
            if not (self.root / folder).is_dir():
                raise InputError(f"There is no folder '{self.root / folder}', the '{key}' of data set '{self.name}'.")
        self.images, self.labels = self.root / images, self.root / labels
        content = CocoPanoptic.read(self.root / index)
        self.classes = content.class_table(self.name) if classes is None else class_table(classes)
        self._labels = content.labels(self.classes)
        self._entries = content.images
        if not self._entries:
            raise InputError(f"'{self.root / index}' lists no image; give another 'index'.")

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self._entries[index]
        image = read_image(self.images / entry.file_name)
        label_map, instance_map = self._maps(entry)
        if image.shape[1:] != label_map.shape:
            raise MismatchedSizesError(
                f"Image '{self.images / entry.file_name}' has {_size(image)} pixels, but its label "
                f"'{self.labels / entry.label_name}' has {_size(label_map)}; they must agree."
            )
        return Sample(image, label_map, self.sample_name(index), instance_map)

    def _maps(self, entry: PanopticImage) -> tuple[Tensor, Tensor]:
        path = self.labels / entry.label_name
        return to_maps(read_segment_ids(path), entry.segments, self._labels, self.classes.things, path)

    def read_label_map(self, index: int) -> Tensor:
        return self._maps(self._entries[index])[0]

    def sample_name(self, index: int) -> str:
        return Path(self._entries[index].file_name).with_suffix("").as_posix()

    def problems(self) -> Sequence[Problem]:
        """Files that the JSON names and that are not there."""
        missing = []
        for index, entry in enumerate(self._entries):
            for what, path in (("image", self.images / entry.file_name), ("label", self.labels / entry.label_name)):
                if not path.is_file():
                    message = f"There is no {what} '{path}', which the JSON names; add it, or correct the JSON."
                    missing.append(Problem(f"missing {what}", self.sample_name(index), message))
        return missing


def _size(tensor: Tensor) -> str:
    return f"{tensor.shape[-1]}×{tensor.shape[-2]}"
