"""What a user may call images: files, folders, patterns, and pictures already in memory."""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from queryseg.data.image_file import IMAGE_EXTENSIONS, read_image
from queryseg.errors import InputError

ImageSource = str | Path | Image.Image | npt.NDArray[np.uint8] | Tensor
"""A path, a PIL image, an array (H, W, 3) or (3, H, W), or a tensor (3, H, W); values are uint8 RGB."""


def find_images(source: str | Path) -> list[Path]:
    """The images that an image file, a folder or a glob pattern names, sorted.

    A folder stands for all images in it and its subfolders, hidden ones left out; only the extension is looked at.

    Raises: InputError if there is none
    """
    path = Path(source)
    known = ", ".join(IMAGE_EXTENSIONS)
    if path.is_file():
        if not _is_image(path):
            raise InputError(f"'{source}' is no image by its extension; known are {known}.")
        return [path]
    if path.is_dir():
        below = (child for child in path.rglob("*") if not _is_hidden(child.relative_to(path)))
        found = sorted(child for child in below if _is_image(child))
        if not found:
            raise InputError(f"Folder '{source}' holds no image ({known}), nor do its subfolders; give another folder.")
        return found
    if glob.has_magic(str(source)):
        found = sorted(match for name in glob.glob(str(source), recursive=True) if _is_image(match := Path(name)))
        if not found:
            raise InputError(
                f"No image matches '{source}'; quote the pattern and check its folder and extension ({known})."
            )
        return found
    raise InputError(f"There is no '{source}'; give an image, a folder of images, or a pattern such as 'frames/*.png'.")


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_EXTENSIONS


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def as_image(source: ImageSource) -> Tensor:
    """(3, H, W) uint8 RGB of anything that `ImageSource` names. EXIF orientation is applied to files and PIL images.

    An array whose last side is 3 is (H, W, 3), even if its first is 3, too; a tensor is always (3, H, W).

    Raises: InputError
    """
    if isinstance(source, str | Path):
        return read_image(source)
    if isinstance(source, Image.Image):
        if source.mode == "F" or source.mode.startswith("I"):
            raise InputError(f"An image is given with pixel mode {source.mode}; convert it to 8-bit RGB first.")
        return torch.from_numpy(np.array(ImageOps.exif_transpose(source).convert("RGB"))).permute(2, 0, 1)
    if isinstance(source, np.ndarray):
        if source.ndim == 3 and source.shape[2] == 3:
            source = source.transpose(2, 0, 1)
        fits = source.ndim == 3 and source.shape[0] == 3 and source.dtype == np.uint8
        _check(fits, source.shape, source.dtype, "an image array is (H, W, 3) or (3, H, W), uint8, RGB")
        return torch.from_numpy(np.ascontiguousarray(source))
    if isinstance(source, Tensor):
        fits = source.ndim == 3 and source.shape[0] == 3 and source.dtype == torch.uint8
        _check(fits, source.shape, source.dtype, "an image tensor is (3, H, W), uint8, RGB")
        return source
    raise InputError(f"An image is given as {type(source).__name__}; give a path, a PIL image, an array or a tensor.")


def as_batch(images: npt.NDArray[np.uint8]) -> Tensor:
    """(B, 3, H, W) uint8 RGB of one array or a batch: (H, W, 3), (3, H, W), (B, H, W, 3) or (B, 3, H, W).

    Raises: InputError
    """
    if isinstance(images, np.ndarray) and images.ndim == 4:
        if images.shape[3] == 3:
            images = images.transpose(0, 3, 1, 2)
        fits = images.shape[1] == 3 and images.dtype == np.uint8
        _check(fits, images.shape, images.dtype, "a batch is (B, H, W, 3) or (B, 3, H, W), uint8, RGB")
        return torch.from_numpy(np.ascontiguousarray(images))
    return as_image(images)[None]


def _check(fits: bool, shape: tuple[int, ...], dtype: object, wanted: str) -> None:
    if not fits or 0 in shape:
        raise InputError(
            f"An image is given as {tuple(shape)} of {str(dtype).removeprefix('torch.')}, but {wanted} 0…255."
        )
