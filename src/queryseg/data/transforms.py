"""From a labelled image to a training image of fixed size.

Shape legend: H×W pixels of the stored image, h×w of the crop.

Images stay uint8 until they are on the device, where the model's own normalisation runs: a batch then crosses the bus
at a quarter of its float size, and no worker can normalise for another backbone than the one that trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Generator, Tensor

from queryseg.data.class_table import Color
from queryseg.data.label_map import pixels_per_label
from queryseg.errors import InputError
from queryseg.types import IGNORE, Sample

SHORT_SIDES = tuple(512 * tenths // 10 for tenths in range(5, 21))
"""256, 307, 358 … 1024: half to twice a 512 crop in steps of a tenth. Source: protocols.md §6 (Rein)."""

_MAX_REDRAWS = 10

Window = tuple[int, int, int, int]
Places = npt.NDArray[np.intp]


class TrainingTransform:
    """Resize, crop, flip, distort and pad one sample.

    crop                (h, w) of the result
    short_sides         the short side becomes one of these, each equally likely
    max_long_side       limits the resize of long images
    resize_range        instead of these two: the image becomes so many times its size, uniform between two numbers
    max_category_share  a crop of which one class covers this share or more is drawn again, at most 10 times
    min_label_pixels    if an image was drawn for the sake of a class: crops are drawn again, size included, at most 10
                        times, until one shows more than so many pixels of it; None: never
    flip                probability of mirroring
    distort             photometric distortion: brightness ±32, contrast and saturation ×0.5–1.5, hue ±18 of 180, each
                        with probability one half
    instances           carry instance maps along, as label maps; without, the result has none
    pad_color           RGB below and to the right of images smaller than the crop (labels: 255). By default the
                        ImageNet mean rounded to 8 bits, so that padding is 0 within 0.01 after ImageNet normalisation.

    Only the part of the image that ends up in the crop is resized; the result equals resizing all of it first, but for
    the rounding of ties (Pillow rounds after each of its two passes: at most 2 of 255, in few pixels).

    Source: protocols.md §6 (mmsegmentation's RandomChoiceResize, RandomCrop, RandomFlip, PhotoMetricDistortion);
    min_label_pixels: DAFormer (Hoyer et al. 2022), 1500.
    Deviations: reducing is antialiased, labels are sampled at pixel centres (mmsegmentation: half a pixel aside), and
    saturation and hue share one trip through 8-bit HSV (256 hues instead of 180).
    """

    def __init__(
        self,
        crop: tuple[int, int] = (512, 512),
        short_sides: Sequence[int] = SHORT_SIDES,
        max_long_side: int = 2048,
        max_category_share: float = 0.75,
        flip: float = 0.5,
        distort: bool = True,
        pad_color: Color = (124, 116, 104),
        instances: bool = False,
        resize_range: tuple[float, float] | None = None,
        min_label_pixels: int | None = None,
    ) -> None:
        if len(crop) != 2 or min(crop) < 1:
            raise InputError(f"'crop' is {crop}; give height and width in pixels, as in [512, 512].")
        if not short_sides or min(short_sides) < 1:
            raise InputError(f"'short_sides' is {list(short_sides)}; give at least one number of pixels.")
        if not 0 < max_category_share <= 1 or not 0 <= flip <= 1:
            raise InputError(
                f"'max_category_share' is {max_category_share} and 'flip' is {flip}; both are shares of 1."
            )
        if resize_range is not None and not 0 < resize_range[0] <= resize_range[1]:
            raise InputError(f"'resize_range' is {list(resize_range)}; give a smallest and a largest factor above 0.")
        self.crop = (int(crop[0]), int(crop[1]))
        self.short_sides = tuple(short_sides)
        self.max_long_side = max_long_side
        self.max_category_share = max_category_share
        self.flip = flip
        self.distort = distort
        self.pad_color = pad_color
        self.instances = instances
        self.resize_range = resize_range
        self.min_label_pixels = min_label_pixels

    def __call__(self, sample: Sample, generator: Generator, label: int | None = None) -> Sample:
        """image (3, h, w) uint8, label_map (h, w) uint8. All randomness comes from the generator, so that a sample is
        the same in whichever process and after whichever interruption it is made. label: the class that it was drawn
        for, if any."""
        for _ in range(1 + _MAX_REDRAWS):
            size = self._resized(sample.label_map.shape, generator)
            window, (rows, columns), label_map = self._window(sample.label_map.numpy(), size, generator)
            if label is None or self.min_label_pixels is None or (label_map == label).sum() > self.min_label_pixels:
                break
        instance_map = None
        if self.instances and sample.instance_map is not None:
            instance_map = sample.instance_map.numpy()[rows].take(columns, 1)
        image = _resize_window(sample.image, size, window)
        mirror = _uniform(generator) < self.flip
        if self.distort:
            image = distorted(image, generator)
        if mirror:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            label_map = label_map[:, ::-1]
            instance_map = None if instance_map is None else instance_map[:, ::-1]
        return replace(
            sample,
            image=self._padded_image(image),
            label_map=self._padded_map(label_map, IGNORE),
            instance_map=None if instance_map is None else self._padded_map(instance_map, 0),
        )

    def _resized(self, shape: Sequence[int], generator: Generator) -> tuple[int, int]:
        """(height, width) to which the whole image would be resized."""
        height, width = shape
        if self.resize_range is not None:
            factor = _uniform(generator, *self.resize_range)
            return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
        short = self.short_sides[_integer(len(self.short_sides), generator)]
        scale = min(short / min(height, width), self.max_long_side / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def _window(
        self, label_map: npt.NDArray[np.uint8], size: tuple[int, int], generator: Generator
    ) -> tuple[Window, tuple[Places, Places], npt.NDArray[np.uint8]]:
        """(top, left, height, width) of the crop within the resized image, the stored rows and columns that its pixels
        lie in, and its label map."""
        height, width = min(self.crop[0], size[0]), min(self.crop[1], size[1])
        for _ in range(1 + _MAX_REDRAWS):
            top, left = _integer(size[0] - height + 1, generator), _integer(size[1] - width + 1, generator)
            # the centre of pixel i of n lies at (i + ½)/n of the side
            rows = ((np.arange(top, top + height) + 0.5) * (label_map.shape[0] / size[0])).astype(np.intp)
            columns = ((np.arange(left, left + width) + 0.5) * (label_map.shape[1] / size[1])).astype(np.intp)
            crop = label_map[rows].take(columns, 1)
            counts = pixels_per_label(torch.from_numpy(crop))[:IGNORE]
            if self.max_category_share == 1 or counts.max() < self.max_category_share * counts.sum():
                break
        return (top, left, height, width), (rows, columns), crop

    def _padded_image(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        if pixels.shape[1:] == self.crop:
            return pixels
        padded = torch.tensor(self.pad_color, dtype=torch.uint8)[:, None, None].repeat(1, *self.crop)
        padded[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        return padded

    def _padded_map(self, values: npt.NDArray[np.integer], padding: int) -> Tensor:
        stored = torch.from_numpy(np.ascontiguousarray(values))
        padded = torch.full(self.crop, padding, dtype=stored.dtype)
        padded[: values.shape[0], : values.shape[1]] = stored
        return padded


def distorted(image: Image.Image, generator: Generator) -> Image.Image:
    """Photometric distortion of an RGB image.

    Brightness, then contrast either before or after saturation and hue. Brightness and contrast are functions of one
    8-bit value and therefore tables. Source: SSD (Liu et al. 2016) in mmsegmentation's order.
    """
    before = np.arange(256, dtype=np.float32)
    after = before.copy()
    saturation, hue = 1.0, 0
    if _coin(generator):
        before = (before + _uniform(generator, -32, 32)).clip(0, 255)
    contrast_first = _coin(generator)
    if _coin(generator):
        contrast = _uniform(generator, 0.5, 1.5)
        if contrast_first:
            before = (before * contrast).clip(0, 255)
        else:
            after = (after * contrast).clip(0, 255)
    if _coin(generator):
        saturation = _uniform(generator, 0.5, 1.5)
    if _coin(generator):
        hue = round(_uniform(generator, -18, 18) * 256 / 180)
    image = _mapped(image, [before] * 3)
    if saturation != 1 or hue:
        levels = np.arange(256)
        bands = [(levels + hue) % 256, (levels * saturation).clip(0, 255), levels]
        image = _mapped(image.convert("HSV"), bands).convert("RGB")
    return _mapped(image, [after] * 3)


def _mapped(image: Image.Image, bands: Sequence[npt.NDArray[np.generic]]) -> Image.Image:
    tables = np.concatenate(bands).round().astype(int)
    return image if (tables == np.tile(np.arange(256), 3)).all() else image.point(tables.tolist())


def _resize_window(image: Tensor, size: tuple[int, int], window: Window) -> Image.Image:
    """A window of the image (3, H, W) resized to `size`, computed from the pixels that it depends on."""
    top, left, height, width = window
    (rows, y0, y1), (columns, x0, x1) = (
        _support(image.shape[1], size[0], top, height),
        _support(image.shape[2], size[1], left, width),
    )
    part = image[:, rows, columns].permute(1, 2, 0).contiguous()
    return Image.fromarray(part.numpy()).resize((width, height), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))


def _support(length: int, resized: int, start: int, num: int) -> tuple[slice, float, float]:
    """The stored pixels that `num` resized ones from `start` on depend on, and where these begin and end among them."""
    scale = length / resized
    margin = int(max(scale, 1.0)) + 2  # the triangle filter reaches max(scale, 1) beyond a pixel's centre
    first = max(0, int(start * scale) - margin)
    last = min(length, int((start + num) * scale) + 1 + margin)
    return slice(first, last), start * scale - first, min((start + num) * scale - first, last - first)


def _uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _coin(generator: Generator) -> bool:
    return _uniform(generator) < 0.5


def _integer(num: int, generator: Generator) -> int:
    """0 ≤ result < num"""
    return int(torch.randint(num, (), generator=generator))
