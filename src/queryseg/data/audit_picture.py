"""A label audit as one picture: a row per class, and in it a piece of an image for every label that becomes it.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from queryseg.data.class_table import Color
from queryseg.data.dataset import RawLabelled, SegmentationDataset
from queryseg.data.drawing import Pixels, text_font
from queryseg.data.label_audit import LabelAudit, LabelUse
from queryseg.types import IGNORE

_VIEW = (184, 124)  # width and height of a piece of an image
_CAPTION, _GAP, _HEAD, _BAR, _LINE = 33, 8, 28, 22, 15
_SMALLEST = 96  # pixels of the image, so that what surrounds a small object can be recognised


def audit_picture(dataset: SegmentationDataset, audit: LabelAudit, columns: int = 6) -> Image.Image:
    """Draw an audit of this data set.

    Each class is a bar of its colour with its name and share of all pixels, over a card for each label that becomes it,
    most pixels first; ignored labels come last. A card shows where the label covers most pixels, outlined in the
    class's colour with everything else faded, and says the label's value, name, colour and share. Labels that were not
    met are listed below.

    columns  cards beside each other
    """
    assert isinstance(dataset, RawLabelled)
    views = _views(dataset, audit)
    blocks = [
        _block(audit, label, uses, views, columns)
        for label in (*range(len(audit.classes)), IGNORE)
        if (uses := [use for use in audit.of_class(label) if use.value in views])
    ]
    width = columns * (_VIEW[0] + _GAP) + _GAP
    footer = _wrapped(_missed(audit), width - 2 * _GAP)
    rows = _in_rows(blocks, width)
    heights = [max(block.height for block in row) + _GAP for row in rows]
    picture = Image.new("RGB", (width, _HEAD + sum(heights) + _LINE * len(footer) + _GAP), "white")
    draw = ImageDraw.Draw(picture)
    title = (
        f"{audit.name}: {len(audit.uses)} labels as {len(audit.classes)} classes of '{audit.classes.name}'; "
        f"{audit.num_read:,} of {audit.num_samples:,} samples read"
    )
    draw.text((_GAP, 6), _fitted(title, width - 2 * _GAP, 13), fill="black", font=text_font(13))
    top = _HEAD
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for block in row:
            picture.paste(block, (left, top))
            left += block.width + _GAP
        top += height
    for i, line in enumerate(footer):
        draw.text((_GAP, top + _LINE * i), line, fill="black", font=text_font())
    return picture


def _block(audit: LabelAudit, label: int, uses: list[LabelUse], views: dict[int, Pixels], columns: int) -> Image.Image:
    """A class and the cards of its labels."""
    color = (0, 0, 0) if label == IGNORE else audit.classes.colors[label]
    across, card_height = min(columns, len(uses)), _VIEW[1] + _CAPTION
    width = across * (_VIEW[0] + _GAP) - _GAP
    block = Image.new("RGB", (width, _BAR + -(-len(uses) // across) * card_height), "white")
    draw = ImageDraw.Draw(block)
    draw.rectangle((0, 0, width, _BAR - 3), fill=color)
    share = sum(use.pixels for use in uses) / max(1, audit.pixels)
    shade = "black" if color[0] * 3 + color[1] * 6 + color[2] > 1300 else "white"  # by how bright the colour looks
    name = _fitted(f"{audit.class_name(label)}  {share:.2%}", width - 8, 13)
    draw.text((4, 2), name, fill=shade, font=text_font(13))
    for i, use in enumerate(uses):
        left, top = i % across * (_VIEW[0] + _GAP), _BAR + i // across * card_height
        block.paste(Image.fromarray(views[use.value]), (left, top))
        _caption(draw, use, audit, (left, top + _VIEW[1]))
    return block


def _in_rows(blocks: list[Image.Image], width: int) -> list[list[Image.Image]]:
    """Blocks beside each other as long as they fit, in their order."""
    rows: list[list[Image.Image]] = [[]]
    for block in blocks:
        used = sum(other.width + _GAP for other in rows[-1]) + _GAP
        if rows[-1] and used + block.width + _GAP > width:
            rows.append([])
        rows[-1].append(block)
    return [row for row in rows if row]


def _missed(audit: LabelAudit) -> str:
    """What no card can show."""
    labels = (*range(len(audit.classes)), IGNORE)
    names = {label: [use.raw.name for use in audit.of_class(label) if use.largest is None] for label in labels}
    parts = [f"Not met as {audit.class_name(label)}: {', '.join(names[label])}." for label in labels if names[label]]
    unused = [audit.class_name(label) for label in labels if not audit.of_class(label) and label != IGNORE]
    if unused:
        parts.append(f"No label becomes {', '.join(unused)}.")
    return " ".join(parts or ["All labels were met."])


def _caption(draw: ImageDraw.ImageDraw, use: LabelUse, audit: LabelAudit, at: tuple[int, int]) -> None:
    left, top = at
    draw.rectangle((left, top + 3, left + 10, top + 13), fill=use.raw.color, outline="gray")
    name = use.raw.name if use.raw.name.endswith(str(use.value)) else f"{use.value} {use.raw.name}"
    draw.text((left + 15, top + 1), _fitted(name, _VIEW[0] - 15), fill="black", font=text_font())
    share = use.pixels / max(1, audit.pixels)
    in_samples = f"{share:.3%}, in {use.samples:,} sample{'s' if use.samples != 1 else ''}"
    draw.text((left + 15, top + 1 + _LINE), in_samples, fill="gray", font=text_font())


def _views(dataset: RawLabelled, audit: LabelAudit) -> dict[int, Pixels]:
    """Label → its piece of an image. Every sample is read once."""
    wanted: dict[int, list[LabelUse]] = defaultdict(list)
    for use in audit.uses:
        if use.largest is not None:
            wanted[use.largest].append(use)
    views = {}
    for index, uses in wanted.items():
        assert isinstance(dataset, SegmentationDataset)
        image = dataset[index].image.permute(1, 2, 0).numpy()
        raw = dataset.read_raw_labels(index).numpy()
        for use in uses:
            label = use.raw.label
            color = (0, 0, 0) if label == IGNORE else audit.classes.colors[label]
            views[use.value] = _view(image, raw == use.value, color)
    return views


def _view(image: Pixels, where: npt.NDArray[np.bool_], color: Color) -> Pixels:
    rows, columns = _frame(where)
    width, height = _VIEW
    picture = Image.fromarray(np.ascontiguousarray(image[rows, columns])).resize(_VIEW, Image.Resampling.BILINEAR)
    scale = max((columns.stop - columns.start) // width, (rows.stop - rows.start) // height, 1)
    # what is thinner than one pixel of the view must not vanish from it
    thick = ndimage.maximum_filter(where[rows, columns], scale)
    inside = np.array(Image.fromarray(thick).resize(_VIEW, Image.Resampling.NEAREST))
    pixels = np.array(picture)
    faded = pixels.mean(-1, keepdims=True) * 0.35 + 150
    pixels = np.where(inside[..., None], pixels, faded).astype(np.uint8)
    around = ndimage.binary_dilation(inside, iterations=2)
    pixels[around & ~inside] = color
    assert pixels.shape == (height, width, 3)
    return pixels


def _frame(where: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part of the image around the largest piece, with half its size as margin, in the ratio of a view."""
    pieces, number = ndimage.label(where)
    largest = int(np.bincount(pieces.ravel(), minlength=number + 1)[1:].argmax())
    rows, columns = ndimage.find_objects(pieces)[largest]
    height = max(2 * (rows.stop - rows.start), _SMALLEST)
    width = max(2 * (columns.stop - columns.start), _SMALLEST)
    height, width = max(height, width * _VIEW[1] // _VIEW[0]), max(width, height * _VIEW[0] // _VIEW[1])
    return _around(rows, height, where.shape[0]), _around(columns, width, where.shape[1])


def _around(part: slice, size: int, limit: int) -> slice:
    size = min(size, limit)
    start = min(max(0, (part.start + part.stop - size) // 2), limit - size)
    return slice(start, start + size)


def _fitted(text: str, width: int, size: int = 12) -> str:
    """Cut where it does not fit. In three dots, since Pillow's font has no sign for them."""
    font = text_font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if text_font().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
