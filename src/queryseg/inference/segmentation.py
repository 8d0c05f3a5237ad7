"""What a model says about one image.

Shape legend: K classes, H×W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from queryseg.data.class_table import ClassTable, Color
from queryseg.data.coco_panoptic import SegmentInfo, measured, write_segment_ids
from queryseg.data.drawing import colorize, overlay
from queryseg.data.label_map import pixels_per_label
from queryseg.data.segment_drawing import colorize_segments, overlay_segments, segment_colors
from queryseg.errors import InputError
from queryseg.inference.segment import Segment

_NO_SEGMENTS = "This segmentation has no segments; predict with the task 'panoptic' or 'instance'."

Kind = Literal["labels", "color", "overlay", "segments"]


@dataclass(frozen=True)
class Segmentation:
    """Labels of an image at its own size.

    image    (H, W, 3) uint8 RGB, upright
    labels   (H, W) uint8 class indices
    classes  what the indices mean
    scores   (K, H, W) float32, higher is likelier, if they were asked for

    Of the tasks "panoptic" and "instance", besides (`labels` is then 255 where there is no segment):

    segment_map  (H, W) int32, the id of each pixel's segment, 0 = none
    segments     in the order of their ids; the masks of instances may overlap, and the map shows the better one
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    classes: ClassTable
    scores: npt.NDArray[np.float32] | None = None
    segment_map: npt.NDArray[np.int32] | None = None
    segments: tuple[Segment, ...] = ()

    def color(self) -> Image.Image:
        """The labels in the classes' colours; of segments, objects in shades of theirs and borders in white."""
        if self.segment_map is not None:
            return Image.fromarray(colorize_segments(self.segment_map, self._colors()))
        return Image.fromarray(colorize(self.labels, self.classes))

    def overlay(self, alpha: float = 0.5) -> Image.Image:
        """The colours over the image; alpha: their opacity, 0…1."""
        if not 0 <= alpha <= 1:
            raise InputError(f"The overlay's alpha is {alpha}; give a number from 0 (image) to 1 (colours).")
        if self.segment_map is not None:
            return Image.fromarray(overlay_segments(self.image, self.segment_map, self._colors(), alpha))
        return Image.fromarray(overlay(self.image, self.labels, self.classes, alpha))

    def share(self) -> dict[str, float]:
        """Class name → share of the image's pixels, in label order, classes that do not occur included."""
        counts = pixels_per_label(torch.from_numpy(self.labels))[: len(self.classes)].tolist()
        return {name: float(n) / self.labels.size for name, n in zip(self.classes.names, counts, strict=True)}

    def segments_info(self) -> tuple[SegmentInfo, ...]:
        """The segments as COCO's panoptic JSON lists them, category ids being class indices. Areas and boxes are those
        on the segment map; what other instances cover completely is left out."""
        if self.segment_map is None:
            raise InputError(_NO_SEGMENTS)
        infos = [SegmentInfo(s.id, s.label, score=round(s.score, 6)) for s in self.segments]
        return measured(torch.from_numpy(self.segment_map), infos)

    def _colors(self) -> list[Color]:
        return segment_colors([(segment.label, segment.is_thing) for segment in self.segments], self.classes)

    def save(self, path: str | Path, kind: Kind = "labels") -> None:
        """Write one picture.

        "labels"   8-bit grey PNG whose values are class indices (trainIds): every library reads back the same numbers;
                   of a palette PNG, OpenCV and torchvision return colours. Viewers show it almost black.
        "color"    RGB in the classes' colours
        "overlay"  the colours over the image
        "segments" the ids of segments as COCO panoptic PNGs hold them: R + 256·G + 65536·B

        Raises: InputError if the file cannot be written, or would not keep labels exactly
        """
        if kind not in get_args(Kind):
            raise InputError(f"A segmentation is saved as 'labels', 'color', 'overlay' or 'segments', not as {kind!r}.")
        path = Path(path)
        if kind != "overlay" and path.suffix.lower() != ".png":
            raise InputError(f"'{path}' does not end in .png, and other formats may change labels; save {kind} as PNG.")
        if kind == "segments":
            if self.segment_map is None:
                raise InputError(_NO_SEGMENTS)
            write_segment_ids(path, self.segment_map)
            return
        picture = {"labels": lambda: Image.fromarray(self.labels), "color": self.color, "overlay": self.overlay}[kind]()
        try:
            picture.save(path)
        except ValueError as error:  # Pillow knows no such extension
            raise InputError(f"'{path}' has no picture's extension; use .png or .jpg.") from error
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"'{path}' could not be written ({reason}); choose a folder that can.") from error
