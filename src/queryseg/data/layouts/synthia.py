"""Layout `synthia`: SYNTHIA-RAND-CITYSCAPES, rendered images from viewpoints all over a city.

    SYNTHIA_RAND_CITYSCAPES.rar    RAND_CITYSCAPES/RGB/0000000.png
                                   RAND_CITYSCAPES/GT/LABELS/0000000.png    16 bits: red class, green object
                                   RAND_CITYSCAPES/GT/COLOR/0000000.png

RAR archives must be unpacked. Terrain, trucks and trains hardly occur: compare with `classes: synthia16`.

Source: https://synthia-dataset.net; the README of the download.
"""

from __future__ import annotations

from dataclasses import dataclass

from queryseg.data.file_tree import DataFile
from queryseg.data.image_file import read_label
from queryseg.data.label_map import LabelMap
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import Keys, LabelSource
from queryseg.data.layouts.layout import Layout


@dataclass(frozen=True, kw_only=True)
class TwoChannelSource(LabelSource):
    """Class and object in two channels of one file."""

    def read_objects(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> Keys:
        return read_label(label, "ids", channel=1)


class Synthia(Layout):
    """9,400 images, 760×1280."""

    card = DatasetCard(
        title="SYNTHIA-RAND-CITYSCAPES",
        download="the unpacked folder RAND_CITYSCAPES of SYNTHIA_RAND_CITYSCAPES.rar (synthia-dataset.net) is needed",
        splits={"all": ""},
        num_images={"all": 9400},
        sources=(
            TwoChannelSource(
                name="ids", images="RGB/{name}.png", labels="GT/LABELS/{name}.png", table="synthia_all", channel=0
            ),
        ),
    )
