"""One picture of many samples: image, coloured label and overlay, with a legend of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from queryseg.data.class_table import ClassTable
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.drawing import colorize, overlay, text_font
from queryseg.data.segment_drawing import overlay_segments, segment_colors
from queryseg.data.segments import LabelledSegments
from queryseg.errors import InputError

_GAP, _CAPTION = 6, 16


def contact_sheet(
    dataset: SegmentationDataset, indices: Sequence[int], columns: int = 2, width: int = 320
) -> Image.Image:
    """Image | coloured label | overlay of each sample, `columns` samples beside each other, over a legend. Where
    the data set tells objects apart, overlays show them in shades of their own.

    width  of one of the three pictures, in pixels; heights follow each image's ratio
    """
    if not indices or columns < 1 or width < 1:
        raise InputError("A contact sheet needs at least one sample, one column and one pixel of width.")
    if wrong := [i for i in indices if not 0 <= i < len(dataset)]:
        raise InputError(
            f"Data set '{dataset.name}' has samples 0 to {len(dataset) - 1}, but sample {wrong[0]} is asked for."
        )
    columns = min(columns, len(indices))
    strips = [_strip(dataset, index, width) for index in indices]
    rows = [strips[i : i + columns] for i in range(0, len(strips), columns)]
    heights = [max(strip.height for strip in row) for row in rows]
    strip_width = strips[0].width
    total_width = columns * (strip_width + _GAP) + _GAP
    legend = _legend(dataset.classes, total_width)
    sheet = Image.new("RGB", (total_width, sum(heights) + _GAP * (len(rows) + 1) + legend.height), "white")
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, strip in enumerate(row):
            sheet.paste(strip, (_GAP + column * (strip_width + _GAP), top))
        top += height + _GAP
    sheet.paste(legend, (0, top))
    return sheet


def _strip(dataset: SegmentationDataset, index: int, width: int) -> Image.Image:
    sample = dataset[index]
    height = max(1, round(width * sample.image.shape[1] / sample.image.shape[2]))
    pixels = sample.image.permute(1, 2, 0).contiguous().numpy()
    covered = overlay(sample.image, sample.label_map, dataset.classes)
    if sample.instance_map is not None:
        things = dataset.classes.things
        found = LabelledSegments.of(sample.label_map, sample.instance_map, things)
        drawn = [(label, label in things) for label in found.labels.tolist()]
        covered = overlay_segments(pixels, found.index_map.int().numpy() + 1, segment_colors(drawn, dataset.classes))
    pictures = [
        (pixels, Image.Resampling.BILINEAR),
        (colorize(sample.label_map, dataset.classes), Image.Resampling.NEAREST),
        (covered, Image.Resampling.BILINEAR),
    ]
    strip = Image.new("RGB", (3 * width, height + _CAPTION), "white")
    ImageDraw.Draw(strip).text((2, 1), f"{index}: {sample.name}", fill="black", font=text_font())
    for i, (picture, resampling) in enumerate(pictures):
        strip.paste(
            Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), resampling), (i * width, _CAPTION)
        )
    return strip


def _legend(classes: ClassTable, width: int) -> Image.Image:
    font = text_font()
    cell = max(int(font.getlength(name)) for name in (*classes.names, "ignored")) + _CAPTION + 2 * _GAP
    per_row = max(1, (width - _GAP) // cell)
    entries = [*zip(classes.names, classes.colors, strict=True), ("ignored", (0, 0, 0))]
    legend = Image.new("RGB", (width, -(-len(entries) // per_row) * (_CAPTION + 2) + _GAP), "white")
    draw = ImageDraw.Draw(legend)
    for i, (name, color) in enumerate(entries):
        left, top = _GAP + i % per_row * cell, i // per_row * (_CAPTION + 2)
        draw.rectangle((left, top + 2, left + _CAPTION - 4, top + _CAPTION - 2), fill=color, outline="gray")
        draw.text((left + _CAPTION, top + 2), name, fill="black", font=font)
    return legend
