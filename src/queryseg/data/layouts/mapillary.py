"""Layout `mapillary`: Mapillary Vistas, labels of version 1.2 (66) or 2.0 (124).

    An-o5cmHOsS1VbLdaKx_zfMdi0No5LUpL2htRxMwCjY_A….zip (2.0)    config_v1.2.json  config_v2.0.json
                                                                validation/images/….jpg
                                                                validation/v1.2/{labels,instances,panoptic}/….png
                                                                validation/v2.0/{labels,instances,panoptic}/….png
    mapillary-vistas-dataset_public_v1.1.zip                    config.json
                                                                validation/images/….jpg
                                                                validation/{labels,instances}/….png

Without `labels`, the 66 labels are read, as the field evaluates on them.

Source: https://www.mapillary.com/dataset/vistas; paths of v1.2 as in mmsegmentation 1.2.2, others from memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from queryseg.data.file_tree import DataFile, FileTree
from queryseg.data.image_file import read_label
from queryseg.data.label_map import LabelMap
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import Keys, LabelSource
from queryseg.data.layouts.layout import Layout
from queryseg.errors import InputError

IMAGES = "{split}/images/{name}.jpg"
OBJECTS = "how instance files number objects (label · 256 + number, from 0) is from memory."


@dataclass(frozen=True, kw_only=True)
class VistasSource(LabelSource):
    """Labels beside 16-bit instance files: label · 256 + number of the object.

    config  file in the root that lists the labels of the version
    """

    config: str

    def bind(self, tree: FileTree, fields: Mapping[str, str | None]) -> LabelSource:
        if tree.has_file(self.config):
            config = tree.file(self.config)
            try:
                number = len(json.loads(config.read_bytes())["labels"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"'{config}' is no configuration of Mapillary Vistas ({error}).") from error
            if number != len(self.classes):
                raise InputError(
                    f"'{config}' lists {number} labels, but labels '{self.name}' of Mapillary Vistas are "
                    f"{len(self.classes)}; it is another version: give 'labels: {'v2.0' if number > 66 else 'v1.2'}'."
                )
        return self

    def read_objects(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> Keys | None:
        if objects is None:
            return None
        values = read_label(objects)
        has_objects = np.zeros(256, bool)
        has_objects[list(self.classes.things)] = True
        return np.where(has_objects[values >> 8], values.astype(np.int32) + 1, 0)  # objects are numbered from 0


class Mapillary(Layout):
    """18,000 images for training and 2,000 for validation, of many sizes, from all over the world."""

    card = DatasetCard(
        title="Mapillary Vistas",
        download="the data set is given out at mapillary.com/dataset/vistas",
        splits={"train": "training", "val": "validation"},
        unlabelled={"test": "its labels are not public"},
        num_images={"train": 18000, "val": 2000},
        sources=(
            VistasSource(
                name="v1.2",
                images=IMAGES,
                labels="{split}/v1.2/labels/{name}.png",
                objects="{split}/v1.2/instances/{name}.png",
                table="mapillary_v1.2",
                config="config_v1.2.json",
                unverified=OBJECTS,
            ),
            VistasSource(
                name="v1.1",
                images=IMAGES,
                labels="{split}/labels/{name}.png",
                objects="{split}/instances/{name}.png",
                table="mapillary_v1.2",
                config="config.json",
                unverified=f"its folders are from memory; {OBJECTS}",
            ),
            VistasSource(
                name="v2.0",
                images=IMAGES,
                labels="{split}/v2.0/labels/{name}.png",
                objects="{split}/v2.0/instances/{name}.png",
                table="mapillary_v2.0",
                config="config_v2.0.json",
                unverified=f"its folders and which labels are things are from memory; {OBJECTS}",
            ),
        ),
    )

    def explain_unknown(self, counts: Mapping[str, int]) -> str:
        if self.source.name != "v2.0" and all(int(value) < 124 for value in counts):
            return "ids from 66 to 123 are labels of version 2.0: give 'labels: v2.0', and its files"
        return super().explain_unknown(counts)
