"""Layout `coco_panoptic`: COCO 2017 with panoptic labels, 133 classes.

    val2017.zip                             val2017/000000000139.jpg
    panoptic_annotations_trainval2017.zip   annotations/panoptic_val2017.json
                                            annotations/panoptic_val2017.zip or, unpacked,
                                            annotations/panoptic_val2017/000000000139.png

The outer zip must be unpacked, since one archive in another is not looked into; the inner one may stay as it is.

Source: https://cocodataset.org/#download; configuration of mmdet 3.3.0.
"""

from __future__ import annotations

from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import PanopticSource
from queryseg.data.layouts.layout import Layout


class CocoPanopticLayout(Layout):
    """118,287 images for training and 5,000 for validation, of many sizes."""

    card = DatasetCard(
        title="COCO panoptic",
        download="train2017.zip or val2017.zip and panoptic_annotations_trainval2017.zip (unpacked) are needed",
        splits={"train": "train2017", "val": "val2017"},
        unlabelled={"test": "its labels are not public, a server scores predictions"},
        num_images={"train": 118287, "val": 5000},
        native="coco_panoptic",
        sources=(
            PanopticSource(
                name="panoptic",
                images="{split}/{name}.jpg",
                labels="annotations/panoptic_{split}/{name}.png",
                index="annotations/panoptic_{split}.json",
                table="coco_panoptic",
            ),
        ),
    )
