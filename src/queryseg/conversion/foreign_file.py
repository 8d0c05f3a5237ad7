"""Weight files of other code bases, of any age and kind, read without running anything that they contain.

Shape legend: N numbers of one storage.
"""

from __future__ import annotations

import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from queryseg.conversion.restricted_unpickler import Array, RestrictedUnpickler, ScriptedModule
from queryseg.errors import CheckpointError
from queryseg.weight_file import is_torchscript, read_content, state_dict_of

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file that torch.save wrote before PyTorch 1.6."""


@dataclass(frozen=True)
class ForeignFile:
    """What a weight file holds.

    kind      for messages
    tensors   name → tensor, arrays included
    others    names beside them that hold no tensor
    foreign   classes and functions that the file names; placeholders stood in for them
    """

    kind: str
    tensors: Mapping[str, Tensor]
    others: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def read_foreign_file(path: str) -> ForeignFile:
    """Read .safetensors, files of torch.save of any version, pickled dictionaries of numpy arrays (detectron2's model
    zoo), training checkpoints full of other objects (mmengine), and TorchScript archives (OpenAI's CLIP).

    Raises: CheckpointError
    """
    kind, content, foreign = read_foreign_content(path)
    entries = {name: _as_tensor(value) for name, value in _entries(content, path).items()}
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    return ForeignFile(kind, tensors, tuple(name for name in entries if name not in tensors), foreign)


def read_foreign_content(path: str) -> tuple[str, object, tuple[str, ...]]:
    """Whatever a file holds: its kind, content, and the classes and functions that placeholders stand for.

    PyTorch's own reader comes first (weights_only); what it refuses goes through `RestrictedUnpickler`. That holds for
    TorchScript, too: torch.jit.load runs the modules' `__setstate__`, which may write files.

    Raises: CheckpointError
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of pickles
            return "safetensors" if path.endswith(".safetensors") else "PyTorch", read_content(path), ()
    except CheckpointError:
        if path.endswith(".safetensors") or not Path(path).is_file():
            raise
        return _read_restricted(path)


def _entries(content: object, path: str) -> Mapping[str, object]:
    if isinstance(content, ScriptedModule):
        attributes = dict(_attributes(content, "", ()))
        if not attributes:
            raise CheckpointError(f"{path} holds no tensors where modules keep them; give a file with named tensors.")
        return attributes
    if isinstance(content, Mapping) and content and all(isinstance(value, list) for value in content.values()):
        raise CheckpointError(
            f"{path} holds queues instead of named tensors; if it is SimCIS's bank of virtual queries, give the "
            "checkpoint that it belongs to, and this file with --bank."
        )
    return state_dict_of(content, path, (Tensor, Array))


def _as_tensor(value: object) -> object:
    return value.tensor() if isinstance(value, Array) else value


def _attributes(module: ScriptedModule, prefix: str, above: tuple[int, ...]) -> list[tuple[str, object]]:
    """Tensors of a module and of those within it, under their names in its state dict."""
    if id(module) in above:
        raise CheckpointError(f"The TorchScript archive is damaged: module {prefix} contains itself.")
    found: list[tuple[str, object]] = []
    for name, value in getattr(module, "attributes", {}).items():
        if isinstance(value, ScriptedModule):
            found += _attributes(value, f"{prefix}{name}.", (*above, id(module)))
        elif isinstance(value, Tensor):
            found.append((f"{prefix}{name}", value))
    return found


# ───────────────────────────── files ─────────────────────────────


def _read_restricted(path: str) -> tuple[str, object, tuple[str, ...]]:
    """Kind, content, names of what was not imported. Raises: CheckpointError"""
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(file) as archive:
                    content, unpickler = _read_archive(archive)
                kind = "TorchScript" if is_torchscript(path) else "PyTorch"
            else:
                kind, content, unpickler = _read_pickle(file, Path(path).stat().st_size)
    except CheckpointError:
        raise
    except Exception as error:  # a pickle may do anything wrong, and names no exceptions beforehand
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or no weight file ({reason}); give a .safetensors, .pth, .pt or .pkl file."
        ) from error
    return kind, content, tuple(unpickler.foreign)


def _read_archive(archive: zipfile.ZipFile) -> tuple[object, RestrictedUnpickler]:
    records = {name.partition("/")[2]: name for name in archive.namelist()}
    if "byteorder" in records and archive.read(records["byteorder"]).decode() != sys.byteorder:
        raise pickle.UnpicklingError("it was written on a machine of another byte order")
    storages: dict[str, Tensor] = {}

    def storage(pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in storages:
            record = archive.getinfo(records[f"data/{key}"])
            if record.compress_type != zipfile.ZIP_STORED or record.file_size != count * dtype.itemsize:
                raise pickle.UnpicklingError("a storage in it is malformed")
            with archive.open(record) as stream:
                storages[key] = _numbers(stream, count, dtype)
        return storages[key]

    with archive.open(records["data.pkl"]) as file:
        unpickler = RestrictedUnpickler(file, storage)
        return unpickler.load(), unpickler


def _read_pickle(file: IO[bytes], size: int) -> tuple[str, object, RestrictedUnpickler]:
    if file.read(1) != pickle.PROTO:
        raise pickle.UnpicklingError("it is neither an archive nor a pickle")
    file.seek(0)
    unpickler = RestrictedUnpickler(file)
    content = unpickler.load()
    if content != _LEGACY_MAGIC or type(content) is not int:
        return "a pickle", content, unpickler
    RestrictedUnpickler(file).load()  # version of the protocol
    if not RestrictedUnpickler(file).load().get("little_endian", True):
        raise pickle.UnpicklingError("it was written on a machine of another byte order")
    storages: dict[str, Tensor] = {}

    def storage(pid: Any) -> Tensor:
        what, *rest = pid
        if what != "storage":
            raise pickle.UnpicklingError("it holds a module instead of tensors")
        dtype, key, _, count, view = rest
        if key not in storages:
            if type(count) is not int or not 0 <= count * dtype.itemsize <= size:
                raise pickle.UnpicklingError("a storage in it is malformed")
            storages[key] = torch.empty(count, dtype=dtype)
        return storages[key] if view is None else storages[key][view[1] : view[1] + view[2]]

    unpickler = RestrictedUnpickler(file, storage)
    content = unpickler.load()
    for key in RestrictedUnpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        if count != len(storages[key]):
            raise pickle.UnpicklingError("a storage in it is malformed")
        storages[key].copy_(_numbers(file, count, storages[key].dtype))
    return "PyTorch (before 1.6)", content, unpickler


def _numbers(stream: IO[bytes], count: int, dtype: torch.dtype) -> Tensor:
    """(N,) read from here."""
    if not count:
        return torch.empty(0, dtype=dtype)
    buffer = bytearray(count * dtype.itemsize)
    readinto: Callable[[bytearray], int] = stream.readinto  # type: ignore[attr-defined]
    if readinto(buffer) != len(buffer):
        raise EOFError("it ends early")
    return torch.frombuffer(buffer, dtype=dtype)
