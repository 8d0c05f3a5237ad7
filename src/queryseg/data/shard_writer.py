"""Writes any data set as tar shards (see `Shards`)."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from queryseg.data.dataset import SegmentationDataset, layout_and_split
from queryseg.data.image_file import read_image
from queryseg.data.ordered_map import ordered_map
from queryseg.data.shards import FORMAT, INDEX
from queryseg.data.whole_file import write_whole
from queryseg.errors import InputError
from queryseg.types import Sample

_COMPRESSION = 6
_MOST_INSTANCES = 2**16 - 1


def write_shards(
    dataset: SegmentationDataset,
    out: str | Path,
    made_of: Mapping[str, Any],
    shard_bytes: int = 500_000_000,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write out/shard-000000.tar … and out/index.json; returns the index.

    made_of      the identity of the data set (see `DataIdentity.to_json`)
    shard_bytes  a shard ends before a sample that would make it larger; one that is larger alone gets its own
    num_workers  encoding processes (0: this one); the files do not depend on it
    progress     called with (samples written, samples in all)

    Image files keep their bytes where the data set is of plain image files, and become PNG where it is not. Labels
    are PNGs of final class ids. Every shard appears whole or not at all, and the index comes last.

    Raises: InputError if the folder already holds shards or cannot be written, or a sample cannot be read
    """
    out = Path(out)
    if (out / INDEX).exists():
        raise InputError(f"'{out}' already holds shards; choose another folder.")
    if shard_bytes < 1:
        raise InputError(f"Shards of {shard_bytes} bytes are asked for; give at least 1.")
    samples = ordered_map(partial(_encoded, dataset), len(dataset), num_workers, progress)
    shards: list[dict[str, Any]] = []
    writer: _ShardWriter | None = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        try:
            for number, (name, files) in enumerate(samples):
                size = sum(map(_tar_size, map(len, files.values())))
                if writer is not None and writer.size + size > shard_bytes:
                    shards.append(writer.close())
                    writer = None
                writer = writer or _ShardWriter(out / f"shard-{len(shards):06d}.tar")
                writer.add(f"{number:08d}", name, files)
            if writer is not None:
                shards.append(writer.close())
                writer = None
        finally:
            if writer is not None:
                writer.abandon()
        index = {
            "format": FORMAT, "name": dataset.name, "split": layout_and_split(dataset)[1], "made_of": dict(made_of),
            "classes": dataset.classes.to_json(), "shards": shards,
        }  # fmt: skip
        text = json.dumps(index)
        write_whole(out / INDEX, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"'{out}' cannot be written ({error.strerror}); choose another folder or free space."
        ) from error
    return out / INDEX


class _ShardWriter:
    """One tar, which gets its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.temporary = path, path.with_name(f".{path.name}.part")
        self.samples: list[dict[str, Any]] = []
        self.size = 0
        self.tar = tarfile.open(self.temporary, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, key: str, name: str, files: Mapping[str, bytes]) -> None:
        """files: end of the member's name, e.g. "label.png" → content"""
        entry: dict[str, Any] = {"name": name}
        for ending, content in files.items():
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size = len(content)  # mtime 0, no owner: the same data give the same bytes
            kind = ending.partition(".")[0] if "." in ending else "image"
            entry[kind] = [member.name, self.tar.offset + tarfile.BLOCKSIZE, len(content)]
            self.tar.addfile(member, io.BytesIO(content))
            self.size += _tar_size(len(content))
        del entry["meta"]
        self.samples.append(entry)

    def close(self) -> dict[str, Any]:
        self.tar.close()
        os.replace(self.temporary, self.path)
        return {"file": self.path.name, "bytes": self.path.stat().st_size, "samples": self.samples}

    def abandon(self) -> None:
        self.tar.close()
        self.temporary.unlink(missing_ok=True)


def _tar_size(num_bytes: int) -> int:
    """Header and content, in whole blocks."""
    return tarfile.BLOCKSIZE * (1 - -num_bytes // tarfile.BLOCKSIZE)


def _encoded(dataset: SegmentationDataset, index: int) -> tuple[str, dict[str, bytes]]:
    sample = dataset[index]
    ending, image = _image(dataset, index, sample)
    files = {ending: image, "label.png": _png(sample.label_map.numpy())}
    if sample.instance_map is not None:
        if int(sample.instance_map.max()) > _MOST_INSTANCES:
            raise InputError(f"Sample '{sample.name}' numbers objects above {_MOST_INSTANCES}, which no PNG keeps.")
        files["instance.png"] = _png(sample.instance_map.numpy().astype(np.uint16))
    # beside the image for WebDataset's own readers, which do not know the index
    files["meta.json"] = json.dumps({"name": sample.name}).encode()
    return sample.name, files


def _image(dataset: SegmentationDataset, index: int, sample: Sample) -> tuple[str, bytes]:
    """The stored file, if it is what the data set shows; else a PNG."""
    files = getattr(dataset, "files", None)
    if files is not None:
        file = files(index)[0]
        if torch.equal(read_image(file), sample.image):
            return PurePosixPath(file.name).suffix[1:].lower(), file.read_bytes()
    return "png", _png(sample.image.permute(1, 2, 0).contiguous().numpy())


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=_COMPRESSION)
    return buffer.getvalue()
