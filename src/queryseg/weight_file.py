"""Files of tensors, of any code base, read without running anything that they contain."""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from queryseg.errors import CheckpointError, reason_of

_CONTAINERS = ("model_ema", "state_dict", "model", "module", "teacher")
"""Keys under which training scripts keep the weights."""


def read_tensors(path: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a PyTorch file, without running code that it contains.

    Raises: CheckpointError
    """
    return {name: value for name, value in state_dict_of(read_content(path), path).items() if isinstance(value, Tensor)}


def read_content(path: str) -> object:
    """What a .safetensors file or a PyTorch file of tensors and plain containers holds.

    Raises: CheckpointError
    """
    if not Path(path).is_file():
        raise CheckpointError(f"There is no weight file {path}; give the path of a .safetensors or .pth file.")
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        if is_torchscript(path):
            raise CheckpointError(
                f"{path} is a TorchScript archive, which contains code; take its weights out by `queryseg convert "
                f"{path} --out DIR` and give the file that this writes."
            )
        with torch.serialization.safe_globals([argparse.Namespace]):  # training options, e.g. in EVA-02's files
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # what damaged pickles raise has no end
        raise CheckpointError(
            f"{path} is damaged or holds objects other than tensors ({reason_of(error)}); "
            "give a file with a state dict, or what `queryseg convert` makes of this one."
        ) from error


def is_torchscript(path: str) -> bool:
    """Whether this is an archive of torch.jit.save. Raises: zipfile.BadZipFile"""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def state_dict_of(content: object, path: str, kinds: tuple[type, ...] = (Tensor,)) -> Mapping[str, object]:
    """The innermost mapping under the keys that training scripts use. kinds: what must be in it.

    Raises: CheckpointError if there is none
    """
    for _ in _CONTAINERS:  # a mapping may hold itself
        keys = [key for key in _CONTAINERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)]
        if not keys:
            break
        content = cast("Mapping[str, object]", content)[keys[0]]
    if not isinstance(content, Mapping) or not any(isinstance(value, kinds) for value in content.values()):
        raise CheckpointError(f"{path} holds no state dict; give a file with named tensors.")
    return {str(name): value for name, value in content.items()}


def file_sha256(path: str | Path) -> str:
    """Of its bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes, kinds and values, whatever device they are on and whichever file they came from."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
