"""Layout `acdc`: ACDC, adverse conditions.

    rgb_anon_trainvaltest.zip    rgb_anon/fog/val/GOPR0476/GOPR0476_frame_000854_rgb_anon.png
    gt_trainval.zip              gt/fog/val/GOPR0476/GOPR0476_frame_000854_gt_labelIds.png  …_gt_labelTrainIds.png

Conditions: fog, night, rain, snow. `train_ref` and `val_ref` are the same places in good weather, without labels.

Source: https://acdc.vision.ee.ethz.ch; the README of the download.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from queryseg.data.class_table import ClassTable
from queryseg.data.label_space import Rules
from queryseg.data.layouts.cityscapes import LABEL_IDS
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource
from queryseg.data.layouts.layout import Layout
from queryseg.errors import InputError

CONDITIONS = ("fog", "night", "rain", "snow")
IMAGES = "rgb_anon/{condition}/{split}/{name}_rgb_anon.png"


class ACDC(Layout):
    """1,600 images for training and 406 for validation, 1080×1920.

    condition  fog, night, rain or snow; None: all, with the condition in front of samples' names
    others     as in `Layout`
    """

    card = DatasetCard(
        title="ACDC",
        download="rgb_anon_trainvaltest.zip and gt_trainval.zip of acdc.vision.ee.ethz.ch are needed",
        splits={"train": "train", "val": "val"},
        unlabelled={
            "test": "its labels are not public, a server scores predictions",
            "train_ref": "images in good weather have no labels",
            "val_ref": "images in good weather have no labels",
            "test_ref": "images in good weather have no labels",
        },
        num_images={"train": 1600, "val": 406},
        sources=(
            LabelSource(
                name="train_ids",
                images=IMAGES,
                labels="gt/{condition}/{split}/{name}_gt_labelTrainIds.png",
                table="cityscapes",
            ),
            LabelSource(
                name="label_ids",
                images=IMAGES,
                labels="gt/{condition}/{split}/{name}_gt_labelIds.png",
                table="cityscapes_all",
                values=LABEL_IDS,
            ),
        ),
    )

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        condition: str | None = None,
        classes: str | Sequence[str] | Mapping[str, object] | ClassTable | None = None,
        mapping: Rules | None = None,
        labels: str = "auto",
        objects: bool = True,
        unpaired: Literal["refuse", "skip", "report"] = "refuse",
        name: str | None = None,
    ) -> None:
        if condition is not None and condition not in CONDITIONS:
            raise InputError(f"ACDC has no condition {condition!r}; choose from: {', '.join(CONDITIONS)}.")
        self.condition = condition
        if condition is not None:
            own = {"train": 400, "val": 106 if condition == "night" else 100}
            self.card = replace(self.card, num_images=own)
            name = name or f"acdc-{condition}-{split}"
        super().__init__(root, split, classes, mapping, labels, objects, unpaired, name)

    def fields(self) -> dict[str, str | None]:
        return {**super().fields(), "condition": self.condition}
