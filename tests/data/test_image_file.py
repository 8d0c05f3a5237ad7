import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from queryseg.data import image_file
from queryseg.data.image_file import pack_color, read_image, read_label
from queryseg.errors import InputError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(np.arange(16)[:, None] * 10, np.arange(24) * 8, 90), -1).astype(np.uint8)
IDS = RNG.integers(0, 34, (12, 20), dtype=np.uint8)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # shown a quarter turn to the right


def write_png(path: Path, pixels: np.ndarray, color_type: int, depth: int) -> None:
    """A PNG that Pillow cannot write: 16-bit RGB, or grey of 2 and 4 bits. pixels (H, W) or (H, W, C)"""
    if depth == 16:
        rows = pixels.astype(">u2").reshape(len(pixels), -1).view(np.uint8)
    else:
        bits = (pixels[..., None] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(bits.reshape(len(pixels), -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    )


def pixels(image: Tensor) -> np.ndarray:
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


def test_plain_rgb_png_and_jpeg(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert (pixels(read_image(tmp_path / "a.png")) == RGB).all()
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    assert np.abs(pixels(read_image(tmp_path / "a.jpg")).astype(int) - SMOOTH).max() <= 6


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_odd_png_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.png")
    assert (pixels(read_image(tmp_path / "a.png")) == np.array(image.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_odd_jpeg_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(SMOOTH).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95)
    difference = pixels(read_image(tmp_path / "a.jpg")).astype(int) - np.array(image.convert("RGB"))
    assert np.abs(difference).max() <= 8


def test_jpeg_with_bytes_after_its_end(tmp_path: Path) -> None:
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"camera maker's notes")
    assert np.abs(pixels(read_image(tmp_path / "a.jpg")).astype(int) - SMOOTH).max() <= 6


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_images_are_scaled_and_rounded(tmp_path: Path, channels: int) -> None:
    wide = RNG.integers(0, 65536, (12, 20, channels)).astype(np.uint16)
    write_png(tmp_path / "a.png", wide.squeeze(), 0 if channels == 1 else 2, 16)
    expected = np.broadcast_to(np.rint(wide / 257), (12, 20, 3))
    assert (pixels(read_image(tmp_path / "a.png")) == expected).all()
    if channels == 1:
        Image.fromarray(wide.squeeze()).save(tmp_path / "a.tif")
        assert (pixels(read_image(tmp_path / "a.tif")) == expected).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "grey.jpg", "palette.png"])
def test_exif_rotated_images_are_turned_upright(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(SMOOTH)
    image = image.convert({"grey.jpg": "L", "palette.png": "P"}.get(name, "RGB"))
    image.save(tmp_path / name, exif=ROTATED)
    image.save(tmp_path / f"upright_{name}")
    upright = pixels(read_image(tmp_path / f"upright_{name}"))
    assert np.abs(pixels(read_image(tmp_path / name)).astype(int) - np.rot90(upright, -1)).max() <= 3


def test_float_image_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(InputError, match=r"depth\.tif' has pixel mode F"):
        read_image(tmp_path / "depth.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_truncated_images_are_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.tile(RGB, (8, 8, 1))).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=rf"'.*cut\.{suffix}' cannot be read"):
        read_image(path)
    with pytest.raises(InputError, match=rf"cut\.{suffix}"):
        read_label(path, "colors")


def test_missing_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image '.*none\.png'"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png' cannot be read"):
        read_image(tmp_path / "text.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


def test_grey_and_palette_labels_are_ids(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "grey.png")
    palette = Image.fromarray(IDS)
    palette.putpalette([255 - value // 3 for value in range(768)])
    palette.save(tmp_path / "palette.png")
    few = Image.fromarray(IDS % 3)
    few.putpalette([9, 9, 9, 7, 7, 7, 8, 8, 8])
    few.save(tmp_path / "two_bits.png", bits=2)
    assert (read_label(tmp_path / "grey.png") == IDS).all()
    assert (read_label(tmp_path / "palette.png") == IDS).all()
    assert (read_label(tmp_path / "two_bits.png") == IDS % 3).all()


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_labels_of_few_bits_are_not_stretched(tmp_path: Path, depth: int) -> None:
    ids = IDS % 2**depth
    write_png(tmp_path / "a.png", ids, 0, depth)
    assert (read_label(tmp_path / "a.png") == ids).all()


def test_16_bit_labels_are_exact(tmp_path: Path) -> None:
    wide = RNG.integers(0, 65536, (12, 20, 3)).astype(np.uint16)
    write_png(tmp_path / "grey.png", wide[..., 0], 0, 16)
    write_png(tmp_path / "rgb.png", wide, 2, 16)
    Image.fromarray(wide[..., 0]).save(tmp_path / "grey.tif")
    assert (read_label(tmp_path / "grey.png") == wide[..., 0]).all()
    assert (read_label(tmp_path / "grey.tif") == wide[..., 0]).all()
    for channel in range(3):
        assert (read_label(tmp_path / "rgb.png", channel=channel) == wide[..., channel]).all()
    with pytest.raises(InputError, match=r"rgb\.png' has 3 channels"):
        read_label(tmp_path / "rgb.png", channel=3)
    for kind in ("ids", "colors"):
        with pytest.raises(InputError, match=r"rgb\.png"):
            read_label(tmp_path / "rgb.png", kind)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_color_labels(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.array([(128, 64, 128), (0, 0, 142)], np.uint8)[IDS % 2]).convert(mode)
    image.save(tmp_path / "a.png")
    found = read_label(tmp_path / "a.png", "colors")
    shown = np.array(image.convert("RGB"))
    assert found.tolist() == [[pack_color((int(r), int(g), int(b))) for r, g, b in row] for row in shown]


def test_labels_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    Image.fromarray(IDS).save(tmp_path / "grey.png")
    Image.fromarray(IDS).save(tmp_path / "grey.jpg")
    Image.fromarray(IDS).save(tmp_path / "turned.png", exif=ROTATED)
    for name, kind, message in (
        ("rgb.png", "ids", r"rgb\.png' has pixel mode RGB: an RGB label where ids are expected"),
        ("grey.png", "colors", r"grey\.png' has pixel mode L .* where RGB colors are expected"),
        ("grey.jpg", "ids", r"grey\.jpg' is a JPEG file"),
        ("turned.png", "ids", r"turned\.png' has an EXIF orientation"),
        ("none.png", "ids", r"no label '.*none\.png'"),
    ):
        with pytest.raises(InputError, match=message):
            read_label(tmp_path / name, kind)  # type: ignore[arg-type]


def test_very_large_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit for the whole process is lifted for one file only; what could fill the memory is refused."""
    Image.fromarray(RGB).save(tmp_path / "a.png")
    Image.fromarray(IDS).save(tmp_path / "l.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # an error from 201 on; the files have 240
    assert (pixels(read_image(tmp_path / "a.png")) == RGB).all()
    assert (read_label(tmp_path / "l.png") == IDS).all()
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(image_file, "MOST_PIXELS", 200)
    with pytest.raises(InputError, match=r"Image '.*a\.png' is too large"):
        read_image(tmp_path / "a.png")
