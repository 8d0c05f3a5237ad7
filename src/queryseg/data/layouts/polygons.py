"""Labels drawn as polygons (`*_gtFine_polygons.json` of Cityscapes and IDD) → label maps.

Shape legend: H×W pixels.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from queryseg.data.class_table import ClassTable
from queryseg.data.file_tree import DataFile
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean

POLYGONS_VERSION = 1
"""Raise it when `rasterise` gives other pixels, so that cached ones are left alone."""

_BACKGROUND = "unlabeled"


def rasterise(
    file: DataFile, classes: ClassTable, skipped: frozenset[str] = frozenset()
) -> dict[str, npt.NDArray[Any]]:
    """ "labels" (H, W) uint8 class indices, "objects" (H, W) uint16: 1 … for polygons of things, 0 elsewhere.

    Polygons are drawn in the order of the file, later ones over earlier ones, on "unlabeled"; deleted ones and those of
    `skipped` labels are left out. "cargroup" is many cars that nobody told apart: label car, object 0.

    Source: the format's description in cityscapesScripts; drawn by Pillow, as the official label images are.
    Raises: InputError naming the file if it is no such JSON or names an unknown label
    """
    try:
        content = json.loads(file.read_bytes())
        size = int(content["imgWidth"]), int(content["imgHeight"])
        polygons = [
            (str(entry["label"]), [(float(x), float(y)) for x, y in entry["polygon"]])
            for entry in content["objects"]
            if not entry.get("deleted")
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"Label '{file}' cannot be read ({error}); it needs imgWidth, imgHeight and objects with label and polygon."
        ) from error
    if min(size) < 1:
        raise InputError(f"Label '{file}' says that its image has {size[0]}×{size[1]} pixels.")
    labels = Image.new("L", size, classes.index(_BACKGROUND))
    objects = Image.new("I;16", size, 0)
    number = 0
    for name, corners in polygons:
        if name in skipped or len(corners) < 3:
            continue
        is_group = name not in classes.names and name.endswith("group")
        name = name.removesuffix("group").strip() if is_group else name
        if name not in classes.names:
            raise InputError(f"Label '{file}' has the unknown label '{name}'.{did_you_mean(name, classes.names)}")
        label = classes.names.index(name)
        is_object = label in classes.things and not is_group
        number += is_object
        ImageDraw.Draw(labels).polygon(corners, fill=label)
        ImageDraw.Draw(objects).polygon(corners, fill=number if is_object else 0)
    return {"labels": np.array(labels, np.uint8), "objects": np.array(objects, np.uint16)}
