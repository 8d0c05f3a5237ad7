"""Tiny data sets in exactly the folders of the official ones, as files, zips or tars."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

Content = bytes | np.ndarray | dict
Tree = Mapping[str, Content]

HEIGHT, WIDTH = 4, 6
PICTURE = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)


def columns(*values: int, dtype: type = np.uint8) -> np.ndarray:
    """(4, 6) with these values from left to right, the last one repeated."""
    row = [*values, *[values[-1]] * (WIDTH - len(values))]
    return np.tile(np.array(row, dtype), (HEIGHT, 1))


def color_columns(*colors: tuple[int, int, int]) -> np.ndarray:
    """(4, 6, 3) with these colours from left to right, the last one repeated."""
    row = [*colors, *[colors[-1]] * (WIDTH - len(colors))]
    return np.tile(np.array(row, np.uint8), (HEIGHT, 1, 1))


def palette_png(ids: np.ndarray) -> bytes:
    """A PNG of palette indices, as GTAV and Mapillary Vistas have them."""
    image = Image.fromarray(ids, "P")
    image.putpalette([value % 256 for i in range(256) for value in (i * 37, i * 91, i * 17)])
    return _saved(image, "png")


def wide_rgb_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16-bit RGB (H, W, 3), which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encode(path: str, content: Content) -> bytes:
    """Arrays as the image that the path's ending says, dictionaries as JSON."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, dict):
        return json.dumps(content).encode()
    return _saved(Image.fromarray(content), "jpeg" if path.endswith(".jpg") else "png")


def write_files(root: Path, tree: Tree) -> None:
    for path, content in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encode(path, content))


def write_archives(root: Path, tree: Tree) -> None:
    """One zip or tar per first folder, side by side in the root; files of the root itself lie beside them."""
    root.mkdir(parents=True, exist_ok=True)
    for i, top in enumerate(sorted({path.partition("/")[0] for path in tree})):
        members = {path: encode(path, content) for path, content in tree.items() if path.startswith(f"{top}/")}
        if not members:
            (root / top).write_bytes(encode(top, tree[top]))
        elif i % 2:
            with tarfile.open(root / f"{top}.tar", "w") as archive:
                for path, content in members.items():
                    member = tarfile.TarInfo(path)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        else:
            with zipfile.ZipFile(root / f"{top}.zip", "w") as archive:
                for path, content in members.items():
                    archive.writestr(path, content)


WRITERS: dict[str, Callable[[Path, Tree], None]] = {"folder": write_files, "archives": write_archives}


def _saved(image: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()
