"""A foreign checkpoint on disk, read without running code that it contains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from queryseg.conversion.foreign_file import read_foreign_file
from queryseg.errors import CheckpointError

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_SHARDED = tuple(f"{name}.index.json" for name in _WHOLE)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Tensors of another code base, and what stands beside them.

    source   where it was read, for messages
    tensors  under the names of its authors
    config   config.json; preprocessor_config.json under its key `preprocessor`; empty without such files
    kind     of its files, for messages
    others   names among the tensors that hold none
    foreign  classes and functions that its files name; none was imported
    """

    source: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    kind: str = ""
    others: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> PublishedCheckpoint:
        """path: a weight file, or a folder as Hugging Face lays it out, in one file or in several.

        Raises: CheckpointError
        """
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        if not path.exists():
            raise CheckpointError(f"There is no {path}; give a weight file or a folder with config.json and weights.")
        config = _read_json(folder / "config.json")
        if preprocessor := _read_json(folder / "preprocessor_config.json"):
            config["preprocessor"] = preprocessor
        files = [read_foreign_file(str(file)) for file in _files(path)]
        tensors = {name: tensor for file in files for name, tensor in file.tensors.items()}
        others = tuple(name for file in files for name in file.others)
        foreign = tuple(dict.fromkeys(name for file in files for name in file.foreign))
        return cls(str(path), tensors, config, files[0].kind, others, foreign)


def _files(path: Path) -> list[Path]:
    """Raises: CheckpointError if a folder holds no weights."""
    if path.is_file():
        return [path]
    if (path / "recipe.yaml").exists():
        raise CheckpointError(f"{path} is a run of queryseg already; use it as it is.")
    for name in _WHOLE:
        if (path / name).is_file():
            return [path / name]
    for name in _SHARDED:
        if (path / name).is_file():
            shards = _read_json(path / name).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise CheckpointError(f"{path / name} names no weight files; download it again.")
            return sorted({path / Path(str(shard)).name for shard in shards.values()})
    raise CheckpointError(
        f"{path} holds no {' or '.join(_WHOLE)}; give the weight file itself, or a folder as Hugging Face lays it out."
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Empty if there is no such file. Raises: CheckpointError"""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({' '.join(str(error).split())}); download it again.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings; download it again.")
    return content
