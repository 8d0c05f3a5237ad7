"""Layout `corrupted`: another data file's samples with corrupted images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from queryseg.data.archive import ArchivedFile
from queryseg.data.corruptions.corrupted import Corrupted
from queryseg.data.data_file import open_data
from queryseg.data.dataset import FileBacked, SegmentationDataset
from queryseg.data.file_tree import DataFile
from queryseg.data.folders import MismatchedSizesError
from queryseg.data.image_file import read_image
from queryseg.errors import InputError
from queryseg.types import Sample


class CorruptedImages(Corrupted):
    """Corrupted images from a folder, or made when they are asked for; labels from the data file they belong to.

    layout: corrupted
    source: /data/cityscapes/val.yaml
    corruption: fog
    severity: 3
    images: fog/3

    root        folder that `source` and `images` start from
    source      data file of the samples
    corruption  see docs/corruptions.md
    severity    1 … 5
    images      folder that `write_corrupted` filled; None: images are corrupted when they are asked for
    name        of the data set in tables; None: the source's with corruption and severity

    Raises: InputError
    """

    def __init__(
        self,
        root: str | Path,
        source: str,
        corruption: str,
        severity: int,
        images: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(open_data(Path(root) / source), corruption, severity)
        self.images = None if images is None else Path(root) / images
        self.name = name or self.name

    def __getitem__(self, index: int) -> Sample:
        if self.images is None:
            return super().__getitem__(index)
        path = self.images / image_path(self.dataset, index)
        if not path.is_file():
            raise InputError(
                f"There is no image '{path}'; let `queryseg data corrupt` finish the tree, or leave out 'images' to "
                "corrupt while reading."
            )
        image, clean = read_image(path), self.dataset[index]
        if image.shape != clean.image.shape:
            sizes = [f"{shape[2]}×{shape[1]}" for shape in (image.shape, clean.image.shape)]
            raise MismatchedSizesError(
                f"Image '{path}' has {sizes[0]} pixels, but '{clean.name}', of which it was made, has {sizes[1]}; "
                "write the corrupted images again, into an empty folder."
            )
        return replace(clean, image=image)


@runtime_checkable
class _OnDisk(Protocol):
    root: Path

    def files(self, index: int) -> tuple[DataFile, DataFile]: ...


def image_path(dataset: SegmentationDataset, index: int) -> PurePosixPath:
    """Where a sample's image lies below `{corruption}/{severity}/`: as below the root of a data set that has one, or in
    its archive, e.g. `leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png`; otherwise by its name, or its number if
    the name is not known before the image. Always a PNG."""
    name = dataset.sample_name(index) if isinstance(dataset, FileBacked) else f"{index:06d}"
    path = PurePosixPath(f"{name}.png")
    if isinstance(dataset, _OnDisk):
        image = dataset.files(index)[0]
        if isinstance(image, ArchivedFile):
            path = PurePosixPath(image.member).with_suffix(".png")
        elif image.is_relative_to(dataset.root):
            path = PurePosixPath(image.relative_to(dataset.root).with_suffix(".png").as_posix())
    return PurePosixPath(*(part for part in path.parts if part not in ("/", "..")))
