"""Layout `cityscapes`: Cityscapes, fine labels.

    leftImg8bit_trainvaltest.zip    leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png
    gtFine_trainvaltest.zip         gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png
                                                         …_instanceIds.png  …_polygons.json  …_color.png
    made by cityscapesScripts       gtFine/val/frankfurt/…_gtFine_labelTrainIds.png
                                    gtFine/cityscapes_panoptic_val.json
                                    gtFine/cityscapes_panoptic_val/frankfurt_000000_000294_gtFine_panoptic.png

Source: https://www.cityscapes-dataset.com; the README of cityscapesScripts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from queryseg.data.file_tree import DataFile
from queryseg.data.image_file import read_label
from queryseg.data.label_map import LabelMap
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import Keys, LabelSource, PanopticSource, PolygonSource
from queryseg.data.layouts.layout import Layout
from queryseg.types import IGNORE

IMAGES = "leftImg8bit/{split}/{name}_leftImg8bit.png"
LABELS = "gtFine/{split}/{name}_gtFine_"

LABEL_IDS = {**{label: label for label in range(34)}, IGNORE: IGNORE}
"""255 in label ids is the licence plate's -1, wrapped to 8 bits."""


@dataclass(frozen=True, kw_only=True)
class InstanceSource(LabelSource):
    """Labels beside `_instanceIds.png`: label id · 1000 + number for objects, the label id itself for everything else,
    groups of objects among it."""

    def read_objects(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> Keys | None:
        if objects is None:
            return None
        values = read_label(objects)
        return np.where(values >= 1000, values, 0)


class Cityscapes(Layout):
    """2,975 images for training and 500 for validation, 1024×2048, of 50 cities in daylight."""

    card = DatasetCard(
        title="Cityscapes",
        download="leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com are needed",
        splits={"train": "train", "val": "val"},
        unlabelled={"test": "its public labels are empty, a server scores predictions"},
        num_images={"train": 2975, "val": 500},
        sources=(
            InstanceSource(
                name="label_ids",
                images=IMAGES,
                labels=f"{LABELS}labelIds.png",
                objects=f"{LABELS}instanceIds.png",
                table="cityscapes_all",
                values=LABEL_IDS,
            ),
            LabelSource(name="train_ids", images=IMAGES, labels=f"{LABELS}labelTrainIds.png", table="cityscapes"),
            PolygonSource(
                name="polygons",
                images=IMAGES,
                labels=f"{LABELS}polygons.json",
                table="cityscapes_all",
                skipped=frozenset({"license plate"}),
            ),
            PanopticSource(
                name="panoptic",
                images=IMAGES,
                labels="gtFine/cityscapes_panoptic_{split}/{name}_gtFine_panoptic.png",
                index="gtFine/cityscapes_panoptic_{split}.json",
                table="cityscapes_all",
                pair_by="file",
            ),
        ),
    )
