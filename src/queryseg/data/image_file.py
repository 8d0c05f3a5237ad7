"""Image and label files: read exactly as they are meant, or refused by name.

Images become (3, H, W) uint8 RGB. Labels become (H, W) integers that are never rescaled, rotated or guessed.
torchvision decodes the common files; Pillow reads the headers and the odd modes.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from queryseg.data.archive import ArchivedFile
from queryseg.errors import InputError

LabelKind = Literal["ids", "colors"]
LabelArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

IMAGE_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LABEL_EXTENSIONS = (".bmp", ".png", ".tif", ".tiff")

MOST_PIXELS = 2**30
"""Of an image or label; more are refused, as they are most likely a file made to fill the memory."""

_RAISED_LIMIT = threading.Lock()
_LABEL_FORMATS = ("PNG", "TIFF", "BMP")  # lossless for certain; a label that went through JPEG or WebP may not be exact
_RGB_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# Pillow stretches grey values of fewer than 8 bits to 0..255; ids must come back as they were.
_GREY_STRETCH = {"L;2": 85, "L;4": 17}


def read_image(path: str | Path | ArchivedFile) -> Tensor:
    """(3, H, W) uint8 RGB, upright, of a file in a folder or an archive. The tensor may be stored pixel by pixel
    (channels last).

    Grey, palette, CMYK and YCbCr images are converted to RGB, an alpha channel is dropped, 16-bit values are scaled to
    8 bits (rounded), and an EXIF orientation is applied. InputError naming the file if it cannot be read.
    """
    with _readable(path, "image") as (image, content):
        raw_mode = _raw_mode(image)
        if image.format == "PNG" and raw_mode.endswith("16B"):
            return _narrow(_decoded(content, ImageReadMode.RGB))
        # A truncated JPEG decodes to grey without complaint in libjpeg; Pillow refuses it.
        if (image.format == "JPEG" and image.mode in ("RGB", "L") and content.endswith(b"\xff\xd9")) or (
            image.format == "PNG" and raw_mode == "RGB"
        ):
            return _decoded(content, ImageReadMode.RGB)
        if image.mode.startswith("I;16"):
            wide = torch.from_numpy(np.array(ImageOps.exif_transpose(image), dtype=np.uint16))
            return _narrow(wide).expand(3, -1, -1)
        if image.mode not in _RGB_CONVERTIBLE:
            raise InputError(
                f"Image '{path}' has pixel mode {image.mode}, which is not a picture's; save it as 8-bit RGB."
            )
        return torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB"))).permute(2, 0, 1)


def read_label(path: str | Path | ArchivedFile, kind: LabelKind = "ids", channel: int | None = None) -> LabelArray:
    """The values of a label file, exactly.

    kind "ids"     (H, W) uint8 or uint16: grey values of 1 to 16 bits, or the indices of a palette PNG
    kind "colors"  (H, W) uint32: R + 256·G + 65536·B, of an RGB or palette file (as `pack_color` gives)
    channel        for ids that are kept in one channel of a colour file, as in SYNTHIA's 16-bit labels (channel 0)

    InputError naming the file if it cannot be read, is an RGB file where ids are expected (or the reverse), may be
    inexact (JPEG, WebP), or has an EXIF orientation (labels are never rotated; readers disagree on whether to).
    """
    with _readable(path, "label") as (image, content):
        if image.format not in _LABEL_FORMATS:
            raise InputError(
                f"Label '{path}' is a {image.format} file, which does not keep ids exactly; save it as PNG."
            )
        raw_mode = _raw_mode(image)
        if kind == "ids" and channel is not None:
            return _read_channel(path, image, content, channel)
        if kind == "colors":
            if image.mode not in ("RGB", "RGBA", "P") or raw_mode.endswith("16B"):
                raise InputError(
                    f"Label '{path}' has pixel mode {image.mode} ({raw_mode}) where RGB colors are expected."
                )
            _check_upright(path, image)
            packed = np.frombuffer(
                image.convert("RGB").tobytes("raw", "RGBX"), dtype=np.dtype(np.uint32).newbyteorder("<")
            )
            return (packed & np.uint32(0xFFFFFF)).reshape(image.height, image.width)
        if image.mode in ("RGB", "RGBA", "CMYK", "LA", "PA"):
            raise InputError(
                f"Label '{path}' has pixel mode {image.mode}: an RGB label where ids are expected; give 'label_map' "
                "colors as in {road: [[128, 64, 128]]}, or 'label_channel' if one channel holds the ids."
            )
        _check_upright(path, image)
        if image.mode in ("1", "L", "P"):
            values = np.asarray(image, dtype=np.uint8)
            stretch = _GREY_STRETCH.get(raw_mode, 1) if image.format == "PNG" else 1
            return values if stretch == 1 else values // np.uint8(stretch)
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        raise InputError(
            f"Label '{path}' has pixel mode {image.mode} where 8-bit or 16-bit ids are expected; save it as PNG."
        )


def pack_color(color: tuple[int, int, int]) -> int:
    """The number that stands for an RGB color in arrays of kind "colors"."""
    return color[0] | color[1] << 8 | color[2] << 16


def _read_channel(path: str | Path | ArchivedFile, image: Image.Image, content: bytes, channel: int) -> LabelArray:
    # Pillow reduces 16-bit RGB to 8 bits without a word and so loses every id; torchvision keeps all bits.
    if image.format != "PNG" or image.mode == "P":
        raise InputError(
            f"Label '{path}' has no channels to choose from; 'label_channel' is for grey or RGB PNG files."
        )
    _check_upright(path, image)
    planes = _decoded(content, ImageReadMode.UNCHANGED)
    if not 0 <= channel < planes.shape[0]:
        raise InputError(f"Label '{path}' has {planes.shape[0]} channels; 'label_channel' {channel} is none of them.")
    values: LabelArray = planes[channel].contiguous().numpy()
    return values


def _narrow(wide: Tensor) -> Tensor:
    """16 → 8 bits: v · 255 / 65535, rounded."""
    return ((wide.to(torch.int32) + 128) // 257).to(torch.uint8)


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for the pixels as stored; unlike `mode` it tells 16-bit RGB from 8-bit RGB."""
    tile: Any = getattr(image, "tile", None)
    args = tile[0][3] if tile else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _decoded(content: bytes, mode: ImageReadMode) -> Tensor:
    """(C, H, W). Only images are turned upright: labels are refused if they are not."""
    upright = mode == ImageReadMode.RGB
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    pixels: Tensor = decode_image(values, mode, apply_exif_orientation=upright)
    return pixels


def _check_upright(path: str | Path | ArchivedFile, image: Image.Image) -> None:
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        raise InputError(f"Label '{path}' has an EXIF orientation; save it upright, without EXIF data.")


def _opened(content: bytes) -> Image.Image:
    """Pillow refuses more than 179 million pixels; aerial images have as many. Its limit holds for the whole process,
    so it is raised for as short as possible."""
    try:
        return Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        with _RAISED_LIMIT:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MOST_PIXELS // 2  # an error is raised at twice it
            try:
                return Image.open(io.BytesIO(content))
            finally:
                Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _readable(path: str | Path | ArchivedFile, what: str) -> Iterator[tuple[Image.Image, bytes]]:
    """The opened file and its bytes; whatever goes wrong while it is read becomes one sentence that names it."""
    try:
        content = (Path(path) if isinstance(path, str) else path).read_bytes()
        with _opened(content) as image:
            yield image, content
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"There is no {what} '{path}'.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{what.capitalize()} '{path}' is too large: {error}.") from error
    except RuntimeError as error:  # torchvision: the text is about its own source lines
        raise InputError(f"{what.capitalize()} '{path}' cannot be read; it is damaged or truncated.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises
        reason = re.sub(r" <_io.BytesIO.*?>|: '.*'$", "", str(error).split("\n")[0]).rstrip(".")
        raise InputError(f"{what.capitalize()} '{path}' cannot be read ({reason}); it may be damaged.") from error
