"""Layout `gtav`: Playing for Data, images of the game GTA V with Cityscapes' labels.

    01_images.zip … 10_images.zip    images/00001.png
    01_labels.zip … 10_labels.zip    labels/00001.png      palette indices are label ids; RGB copies are read as well
    read_mapping.zip                 read_mapping/split.mat  trainIds, valIds, testIds: numbers of the official split

The field trains on all 24,966 images.

Source: https://download.visinf.tu-darmstadt.de/data/from_games/; the place of split.mat from memory.
"""

from __future__ import annotations

import io
from functools import cached_property

import numpy as np
from PIL import Image
from scipy.io import loadmat

from queryseg.data.class_table import CITYSCAPES_ALL, CITYSCAPES_IDS
from queryseg.data.file_tree import DataFile
from queryseg.data.image_file import pack_color
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource
from queryseg.data.layouts.layout import Layout
from queryseg.errors import InputError
from queryseg.types import IGNORE

IMAGES, LABELS = "images/{name}.png", "labels/{name}.png"
SPLIT_FILES = ("split.mat", "read_mapping/split.mat")


def color_values() -> dict[int, int]:
    """Packed colour → label id. Where several labels share one, the evaluated one is meant: it is the pole, the car."""
    evaluated_last = sorted(range(34), key=lambda label: CITYSCAPES_IDS[label] != IGNORE)
    colors = {pack_color(CITYSCAPES_ALL.colors[label]): label for label in evaluated_last}
    return {**colors, pack_color((20, 20, 20)): CITYSCAPES_ALL.index("static")}


class ColorSource(LabelSource):
    """Labels that lost their palette."""

    def fits(self, label: DataFile) -> bool:
        return not is_palette(label)


class PaletteSource(LabelSource):
    """Labels as downloaded."""

    def fits(self, label: DataFile) -> bool:
        return is_palette(label)


def is_palette(label: DataFile) -> bool:
    """Whether a PNG holds ids (palette indices, grey values) instead of colours."""
    try:
        with Image.open(io.BytesIO(label.read_bytes())) as image:
            return image.mode in ("P", "L")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"Label '{label}' cannot be read ({error}); it may be damaged.") from error


class GTAV(Layout):
    """24,966 rendered images, about 1052×1914."""

    card = DatasetCard(
        title="GTAV",
        download="01_images.zip … 10_images.zip and 01_labels.zip … 10_labels.zip of Playing for Data are needed",
        splits={"all": "", "train": "trainIds", "val": "valIds", "test": "testIds"},
        num_images={"all": 24966},
        sources=(
            PaletteSource(
                name="ids",
                images=IMAGES,
                labels=LABELS,
                table="cityscapes_all",
                values={**{label: label for label in range(35)}, IGNORE: IGNORE},
            ),
            ColorSource(
                name="colors",
                images=IMAGES,
                labels=LABELS,
                table="cityscapes_all",
                kind="colors",
                values=color_values(),
            ),
        ),
    )

    def wanted(self, name: str) -> bool:
        return self.split == "all" or int(name) in self.numbers

    @cached_property
    def numbers(self) -> frozenset[int]:
        """Numbers of the images of the split, from split.mat."""
        paths = [path for path in SPLIT_FILES if self.tree.has_file(path)]
        if not paths:
            raise InputError(
                f"Split '{self.split}' of GTAV needs '{SPLIT_FILES[0]}' of read_mapping.zip in '{self.root}'; add it, "
                "or take 'split: all' as the field does."
            )
        content = loadmat(io.BytesIO(self.tree.file(paths[0]).read_bytes()))
        key = self.card.splits[self.split]
        if key not in content:
            raise InputError(f"'{self.tree.where(paths[0])}' has no '{key}'; it is not the split.mat of GTAV.")
        return frozenset(np.asarray(content[key]).ravel().astype(int).tolist())
