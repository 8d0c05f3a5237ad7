"""Layout `ade20k`: ADE20K as in the SceneParsing challenge, 150 classes.

    ADEChallengeData2016.zip       ADEChallengeData2016/images/validation/ADE_val_00000001.jpg
                                   ADEChallengeData2016/annotations/validation/ADE_val_00000001.png    0 other, 1 … 150
    annotations_instance.tar       annotations_instance/validation/ADE_val_00000001.png    RGB: category, object, 0

The root is ADEChallengeData2016; the instance challenge's folder lies in it. Without it, objects are not told apart.

Source: http://sceneparsing.csail.mit.edu; configuration of mmsegmentation 1.2.2; instance files from memory of the
challenge's description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from queryseg.data.class_table import class_table
from queryseg.data.file_tree import DataFile, FileTree
from queryseg.data.image_file import read_label
from queryseg.data.label_map import LabelMap
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import Keys, LabelSource
from queryseg.data.layouts.layout import Layout
from queryseg.data.path_pattern import PathPattern
from queryseg.types import IGNORE


@dataclass(frozen=True, kw_only=True)
class SceneParsingSource(LabelSource):
    """Labels beside the instance challenge's files, where there are any: red is one of the 100 categories, which are
    the things in the order of their ids; green numbers the objects of a category from 1."""

    def bind(self, tree: FileTree, fields: Mapping[str, str | None]) -> LabelSource:
        folder = PathPattern(str(self.objects)).fill(**fields).folder
        return self if tree.has_folder(folder) else replace(self, objects=None, unverified=None)

    def read_objects(self, label: DataFile, objects: DataFile | None, label_map: LabelMap) -> Keys | None:
        if objects is None:
            return None
        packed = read_label(objects, "colors")
        category, number = packed & 255, packed >> 8 & 255
        # the two challenges were labelled apart: where they differ, the label counts and the object is not told apart
        own = np.zeros(256, np.uint8)
        own[1 : len(self.classes.things) + 1] = np.array(sorted(self.classes.things)) + 1
        agrees = own[category.astype(np.uint8)] == read_label(label)
        return np.where(agrees & (number > 0), category << 8 | number, 0)


class ADE20K(Layout):
    """20,210 images for training and 2,000 for validation, of many sizes, indoors and outdoors."""

    card = DatasetCard(
        title="ADE20K",
        download="ADEChallengeData2016.zip of sceneparsing.csail.mit.edu is needed, and its folder is the root",
        splits={"train": "training", "val": "validation"},
        unlabelled={"test": "its labels are not public, a server scores predictions"},
        num_images={"train": 20210, "val": 2000},
        native="ade20k",
        sources=(
            SceneParsingSource(
                name="scene_parsing",
                images="images/{split}/{name}.jpg",
                labels="annotations/{split}/{name}.png",
                objects="annotations_instance/{split}/{name}.png",
                table="ade20k",
                unverified="what the channels of the instance challenge's files mean is from memory.",
                values={0: IGNORE, **{label + 1: label for label in range(len(class_table("ade20k")))}},
            ),
        ),
    )
