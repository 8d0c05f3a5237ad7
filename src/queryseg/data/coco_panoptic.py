"""The COCO panoptic format: a PNG of segment ids per image, one JSON that says what they are.

Shape legend: H×W pixels, S segments of one image.

PNG   id = R + 256·G + 65536·B; 0 is void
JSON  images       [{id, file_name, height, width}]
      annotations  [{image_id, file_name, segments_info: [{id, category_id, iscrowd, area, bbox: [x, y, w, h]}]}]
      categories   [{id, name, isthing, color?}]

Source: https://cocodataset.org/#format-data, section 4; Cityscapes' and ADE20K's panoptic files have the same format,
with texts as image ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from queryseg.data.archive import ArchivedFile
from queryseg.data.class_table import ClassTable, Color, as_color, distinct_colors
from queryseg.data.image_file import read_label
from queryseg.data.segments import LabelledSegments
from queryseg.data.whole_file import write_whole
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean
from queryseg.types import IGNORE

MAX_SEGMENT_ID = 256**3 - 1


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment of an image.

    id           1 … 256³ − 1, the value of its pixels in the PNG
    category_id  of the JSON's categories
    is_crowd     objects that nobody told apart: no loss and no metric counts them
    area         pixels
    bbox         (x, y, width, height) in pixels
    score        0…1, of predictions; the format's tools look at it no more than at other further keys
    """

    id: int
    category_id: int
    is_crowd: bool = False
    area: int = 0
    bbox: tuple[int, int, int, int] = (0, 0, 0, 0)
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PanopticImage:
    """One image of the JSON and its segments.

    image_id    number or text
    file_name   of the image
    label_name  of the PNG with its segment ids
    size        (H, W), or None if the JSON does not say
    """

    image_id: int | str
    file_name: str
    label_name: str
    size: tuple[int, int] | None
    segments: tuple[SegmentInfo, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A class as the JSON declares it. Ids may have gaps: COCO's 133 run to 200."""

    id: int
    name: str
    is_thing: bool
    color: Color | None = None


@dataclass(frozen=True)
class CocoPanoptic:
    """The JSON of a data set or of predictions."""

    categories: tuple[Category, ...]
    images: tuple[PanopticImage, ...]

    @classmethod
    def read(cls, path: str | Path | ArchivedFile) -> CocoPanoptic:
        """From a folder or an archive. InputError naming the file if it is none, or not of this format."""
        try:
            content = json.loads((Path(path) if isinstance(path, str) else path).read_bytes())
        except OSError as error:
            raise InputError(f"'{path}' cannot be read ({error.strerror}); give the JSON of a panoptic set.") from error
        except ValueError as error:
            raise InputError(f"'{path}' is no JSON file ({error}); it may be damaged.") from error
        try:
            return cls(tuple(_category(entry) for entry in content["categories"]), tuple(_images(content)))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error} where one is needed" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"'{path}' is no COCO panoptic JSON ({reason}); it needs images, annotations with segments_info, and "
                "categories with isthing."
            ) from error

    def write(self, path: str | Path) -> None:
        """The file appears whole or not at all. InputError if it cannot be written."""
        content = {
            "images": [_image_entry(image) for image in self.images],
            "annotations": [_annotation_entry(image) for image in self.images],
            "categories": [_category_entry(category) for category in self.categories],
        }
        text = json.dumps(content, separators=(",", ":"))
        write_whole(Path(path), lambda part: part.write_text(text, encoding="utf-8"))

    def class_table(self, name: str) -> ClassTable:
        """All categories in their order, as the classes 0, 1, …"""
        chosen = distinct_colors(len(self.categories))
        return ClassTable(
            name,
            tuple(category.name for category in self.categories),
            tuple(category.color or color for category, color in zip(self.categories, chosen, strict=True)),
            frozenset(label for label, category in enumerate(self.categories) if category.is_thing),
        )

    def labels(self, classes: ClassTable) -> dict[int, int]:
        """category id → class index, by names. InputError if a category has no class of its name."""
        labels = {}
        for category in self.categories:
            if category.name not in classes.names:
                raise InputError(
                    f"Category '{category.name}' is no class of '{classes.name}'."
                    f"{did_you_mean(category.name, classes.names)}"
                )
            labels[category.id] = classes.names.index(category.name)
        return labels


def categories_of(classes: ClassTable) -> tuple[Category, ...]:
    """The classes as categories whose ids are the class indices."""
    return tuple(
        Category(label, name, label in classes.things, classes.colors[label])
        for label, name in enumerate(classes.names)
    )


def read_segment_ids(path: str | Path | ArchivedFile) -> Tensor:
    """(H, W) int32 segment ids of a PNG, 0 = void. InputError naming the file."""
    return torch.from_numpy(read_label(path, "colors").astype(np.int32))


def write_segment_ids(path: str | Path, segment_ids: Tensor | npt.NDArray[np.integer]) -> None:
    """(H, W) segment ids → PNG. The file appears whole or not at all. InputError if it cannot be written."""
    ids = segment_ids.cpu().numpy() if isinstance(segment_ids, Tensor) else segment_ids
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= MAX_SEGMENT_ID:
        raise InputError(f"Segment ids run from {ids.min()} to {ids.max()}; PNG files hold 0 to {MAX_SEGMENT_ID}.")
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    write_whole(Path(path), partial(Image.fromarray(rgb).save, format="PNG"))


def to_maps(
    segment_ids: Tensor,
    segments: Iterable[SegmentInfo],
    labels: Mapping[int, int],
    things: frozenset[int],
    source: str | Path = "the PNG",
) -> tuple[Tensor, Tensor]:
    """Segment ids and their meaning → label_map (H, W) uint8 and instance_map (H, W) int32 of `types.Sample`.

    segment_ids  (H, W) int, 0 = void → 255
    labels       category id → class index, or 255 = ignored
    things       class indices; their segments are numbered 1 … in the order of `segments`, crowds stay 0
    source       what errors call the PNG

    A crowd of stuff is ignored: stuff has no instance number that could tell it from the class.

    Raises: InputError for pixels of a segment, or segments of a category, that nothing explains
    """
    ordered = sorted(segments, key=lambda segment: segment.id)
    ids = np.array([0, *(segment.id for segment in ordered)])
    if len(set(ids.tolist())) < len(ids):
        raise InputError(f"The segments of '{source}' have an id twice, or 0; ids are unique, from 1 on.")
    numbers = {segment.id: 0 for segment in ordered}
    values = [IGNORE]
    for segment in ordered:
        if segment.category_id not in labels:
            raise InputError(
                f"Segment {segment.id} of '{source}' has category {segment.category_id}, which no class stands for."
            )
        label = labels[segment.category_id]
        values.append(IGNORE if segment.is_crowd and label not in things else label)
    objects = (s.id for s in segments if labels[s.category_id] in things and not s.is_crowd)
    numbers.update({id_: number for number, id_ in enumerate(objects, 1)})
    pixels = segment_ids.cpu().numpy()
    place = np.searchsorted(ids, pixels).clip(max=len(ids) - 1)
    if (unknown := ids[place] != pixels).any():
        raise InputError(
            f"'{source}' has pixels of segment {pixels[unknown][0]}, which its JSON does not list; PNG and JSON must "
            "be of one set."
        )
    label_map = np.array(values, np.uint8)[place]
    instance_map = np.array([0, *(numbers[segment.id] for segment in ordered)], np.int32)[place]
    return torch.from_numpy(label_map), torch.from_numpy(instance_map)


def to_segments(
    label_map: Tensor, instance_map: Tensor, things: frozenset[int], crowds: bool = True
) -> tuple[Tensor, tuple[SegmentInfo, ...]]:
    """The reverse of `to_maps`: segment ids (H, W) int32, numbered 1 … by class and instance, and what they are.

    label_map     (H, W) uint8, 255 = ignored → void
    instance_map  (H, W) int32; looked at on things only
    things        class indices
    crowds        what instance 0 of a thing is: a crowd (ground truth), or void (predictions)

    Category ids are class indices, as `categories_of` gives them.
    """
    found = LabelledSegments.of(label_map.cpu(), instance_map.cpu(), things)
    crowd = found.crowds(things)
    if not crowds:
        found = found.where(~crowd)
        crowd = torch.zeros_like(found.labels, dtype=torch.bool)
    segment_ids = found.index_map.int() + 1
    pairs = zip(found.labels.tolist(), crowd.tolist(), strict=True)
    return segment_ids, measured(segment_ids, [SegmentInfo(i, *pair) for i, pair in enumerate(pairs, 1)])


def measured(segment_ids: Tensor, segments: Sequence[SegmentInfo]) -> tuple[SegmentInfo, ...]:
    """The segments with area and box as the pixels (H, W) have them; segments without pixels are dropped."""
    ids = segment_ids.cpu().numpy()
    areas = np.bincount(ids.ravel())
    boxes = ndimage.find_objects(ids)
    result = []
    for segment in segments:
        if segment.id < len(areas) and areas[segment.id]:
            rows, columns = boxes[segment.id - 1]
            box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            result.append(replace(segment, area=int(areas[segment.id]), bbox=box))
    return tuple(result)


def _images(content: Mapping[str, Any]) -> Iterable[PanopticImage]:
    images = {image["id"]: image for image in content["images"]}
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        size = (int(image["height"]), int(image["width"])) if {"height", "width"} <= image.keys() else None
        segments = tuple(_segment(entry) for entry in annotation["segments_info"])
        yield PanopticImage(image["id"], str(image["file_name"]), str(annotation["file_name"]), size, segments)


def _segment(entry: Mapping[str, Any]) -> SegmentInfo:
    x, y, width, height = (int(value) for value in entry.get("bbox", (0, 0, 0, 0)))
    score = float(entry["score"]) if "score" in entry else None
    return SegmentInfo(
        id=int(entry["id"]),
        category_id=int(entry["category_id"]),
        is_crowd=bool(entry.get("iscrowd", 0)),
        area=int(entry.get("area", 0)),
        bbox=(x, y, width, height),
        score=score,
    )


def _category(entry: Mapping[str, Any]) -> Category:
    color = as_color(entry["color"]) if "color" in entry else None
    return Category(int(entry["id"]), str(entry["name"]), bool(entry["isthing"]), color)


def _image_entry(image: PanopticImage) -> dict[str, object]:
    size = {} if image.size is None else {"height": image.size[0], "width": image.size[1]}
    return {"id": image.image_id, "file_name": image.file_name, **size}


def _annotation_entry(image: PanopticImage) -> dict[str, object]:
    segments = [
        {
            "id": segment.id,
            "category_id": segment.category_id,
            "iscrowd": int(segment.is_crowd),
            "area": segment.area,
            "bbox": list(segment.bbox),
            **({} if segment.score is None else {"score": segment.score}),
        }
        for segment in image.segments
    ]
    return {"image_id": image.image_id, "file_name": image.label_name, "segments_info": segments}


def _category_entry(category: Category) -> dict[str, object]:
    color = {} if category.color is None else {"color": list(category.color)}
    entry: dict[str, object] = {"id": category.id, "name": category.name, "isthing": int(category.is_thing)}
    return entry | color
