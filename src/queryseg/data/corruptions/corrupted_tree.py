"""Corrupted images on disk, as Cityscapes-C lays them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from PIL import Image

from queryseg.data.corruptions.corrupted import corrupted_name
from queryseg.data.corruptions.corrupted_images import image_path
from queryseg.data.corruptions.registry import corrupt
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset, sample_name
from queryseg.data.ordered_map import ordered_map
from queryseg.data.whole_file import write_whole
from queryseg.errors import InputError
from queryseg.types import Sample

_RECORD = "corrupted_tree.json"
_COMPRESSION = 3  # of PNG's 0..9: noise gets hardly any smaller with more, and takes much longer


def write_corrupted(
    source: str | Path,
    corruptions: Sequence[tuple[str, int]],
    out: str | Path,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Path], int]:
    """Write a data file's images under every corruption and severity; returns the data files that read them back, and
    how many images were written now.

    out/{corruption}/{severity}/leftImg8bit/val/…png     see `image_path`
    out/{corruption}-{severity}.yaml                     labels stay where they are: it names `source`

    Each file appears whole or not at all, and what is there already is left alone: the same call goes on after an
    interruption. Raises: InputError, also if `out` holds corrupted images of another data file.

    num_workers  processes; the files do not depend on it
    progress     called with (images done, images in all)
    """
    dataset, out, source = open_data(source), Path(out), Path(source).resolve()
    _check_names(dataset)
    _claim(out, {"source": str(source), "num_images": len(dataset)})
    jobs = _ImageWriter(dataset, corruptions, out)
    written = sum(ordered_map(jobs, len(dataset) * len(corruptions), num_workers, progress))
    data_files = []
    for corruption, severity in corruptions:
        content = {
            "layout": "corrupted",
            "name": corrupted_name(dataset.name, corruption, severity),
            "source": str(source),
            "corruption": corruption,
            "severity": severity,
            "images": f"{corruption}/{severity}",
        }
        data_files.append(out / f"{corruption}-{severity}.yaml")
        _write_text(data_files[-1], yaml.safe_dump(content, sort_keys=False))
    return data_files, written


class _ImageWriter:
    """Job → number of images written (0 or 1). Jobs of one image follow each other, so that it is read once."""

    def __init__(self, dataset: SegmentationDataset, corruptions: Sequence[tuple[str, int]], out: Path) -> None:
        self.dataset, self.corruptions, self.out = dataset, corruptions, out
        self._index = -1
        self._sample: Sample | None = None

    def __call__(self, job: int) -> int:
        index, which = divmod(job, len(self.corruptions))
        corruption, severity = self.corruptions[which]
        path = self.out / corruption / str(severity) / image_path(self.dataset, index)
        if path.exists():
            return 0
        sample = self._read(index)
        pixels = corrupt(sample.image, corruption, severity, sample.name).permute(1, 2, 0)
        picture = Image.fromarray(np.ascontiguousarray(pixels.numpy()))
        write_whole(path, partial(picture.save, format="PNG", compress_level=_COMPRESSION))
        return 1

    def _read(self, index: int) -> Sample:
        if self._sample is None or index != self._index:
            self._index, self._sample = index, self.dataset[index]
        return self._sample


def _check_names(dataset: SegmentationDataset) -> None:
    names: dict[PurePosixPath, str] = {}
    for index in range(len(dataset)):
        path, name = image_path(dataset, index), sample_name(dataset, index)
        if path in names:
            raise InputError(
                f"'{names[path]}' and '{name}' would both be written to '{path}'; give the images different names."
            )
        names[path] = name


def _claim(out: Path, record: dict[str, object]) -> None:
    """Say in the folder what it holds; refuse a folder that says otherwise."""
    path = out / _RECORD
    if not path.exists():
        _write_text(path, json.dumps(record, indent=1) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}); choose another --out.") from error
    if found != record:
        raise InputError(
            f"'{out}' holds other corrupted images ({found}), but given are those of {record}; choose another --out."
        )


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
