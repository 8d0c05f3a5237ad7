"""Layout `nightcity`: NightCity, streets at night from all over the world; its first release and NightCity-fine.

    first release     NightCity-images/images/val/Image_1.png    NightCity-label/label/val/Image_1_labelIds.png
    the same, moved   images/val/Image_1.png                     label/val/Image_1_labelIds.png
    fine              val/img/Image_1.png                        val/lbl/Image_1.png    train ids

Source: https://dmcv.sjtu.edu.cn/people/phd/tanxin/NightCity; all paths from memory.
"""

from __future__ import annotations

from queryseg.data.layouts.cityscapes import LABEL_IDS
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource
from queryseg.data.layouts.layout import Layout


class NightCity(Layout):
    """2,998 images for training and 1,299 for validation, 512×1024."""

    card = DatasetCard(
        title="NightCity",
        download="images and labels are given out at dmcv.sjtu.edu.cn/people/phd/tanxin/NightCity",
        splits={"train": "train", "val": "val"},
        num_images={"train": 2998, "val": 1299},
        sources=(
            LabelSource(
                name="first_release",
                images="NightCity-images/images/{split}/{name}.png",
                labels="NightCity-label/label/{split}/{name}_labelIds.png",
                table="cityscapes_all",
                values=LABEL_IDS,
            ),
            LabelSource(
                name="label_ids",
                images="images/{split}/{name}.png",
                labels="label/{split}/{name}_labelIds.png",
                table="cityscapes_all",
                values=LABEL_IDS,
            ),
            LabelSource(
                name="fine",
                images="{split}/img/{name}.png",
                labels="{split}/lbl/{name}.png",
                table="cityscapes",
            ),
        ),
        unverified="all folders and suffixes are from memory, and so is which release holds label ids.",
    )
