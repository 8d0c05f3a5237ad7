"""Layout `idd`: IDD, roads of India; segmentation, parts I and II.

    idd-segmentation.tar.gz         leftImg8bit/val/119/903127_leftImg8bit.png
                                    gtFine/val/119/903127_gtFine_polygons.json
    idd-20k-II.tar.gz               leftImg8bit/val/201/frame0029_leftImg8bit.jpg
    made by AutoNUE's public-code   gtFine/val/119/903127_gtFine_labellevel3Ids.png  …_gtFine_labelcsTrainIds.png

Compressed tars must be unpacked.

Source: https://idd.insaan.iiit.ac.in; all from memory.
"""

from __future__ import annotations

from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource, PolygonSource
from queryseg.data.layouts.layout import Layout

IMAGES = "leftImg8bit/{split}/{name}_leftImg8bit.{png|jpg}"


class IDD(Layout):
    """About 14,000 images for training and 2,000 for validation in both parts, of several sizes."""

    card = DatasetCard(
        title="IDD",
        download="idd-segmentation.tar.gz (and idd-20k-II.tar.gz) of idd.insaan.iiit.ac.in, unpacked, are needed",
        splits={"train": "train", "val": "val"},
        unlabelled={"test": "its labels are not public, a server scores predictions"},
        native="idd",
        sources=(
            PolygonSource(
                name="polygons", images=IMAGES, labels="gtFine/{split}/{name}_gtFine_polygons.json", table="idd_all"
            ),
            LabelSource(
                name="level3", images=IMAGES, labels="gtFine/{split}/{name}_gtFine_labellevel3Ids.png", table="idd"
            ),
            LabelSource(
                name="cs_train_ids",
                images=IMAGES,
                labels="gtFine/{split}/{name}_gtFine_labelcsTrainIds.png",
                table="cityscapes",
            ),
        ),
        unverified=(
            "paths, the names of its labels, their grouping into 26 classes and their mapping to Cityscapes are from "
            "memory; look at 'queryseg data show --audit' before you trust a number."
        ),
    )
