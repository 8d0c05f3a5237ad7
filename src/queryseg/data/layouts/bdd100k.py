"""Layout `bdd100k`: BDD100K, semantic segmentation.

    bdd100k_images_10k.zip        images/10k/val/7d06fefd-f7be05a6.jpg
    bdd100k_sem_seg_labels.zip    labels/sem_seg/masks/val/7d06fefd-f7be05a6.png    train ids, 255 unlabelled

The first release, `seg/images/val/….jpg` with `seg/labels/val/…_train_id.png`, is read as well.

Source: https://doc.bdd100k.com; configuration of mmsegmentation 1.2.2 (the current release); the first one from memory.
"""

from __future__ import annotations

from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource
from queryseg.data.layouts.layout import Layout


class BDD100K(Layout):
    """7,000 images for training and 1,000 for validation, 720×1280, in all weathers of the USA."""

    card = DatasetCard(
        title="BDD100K",
        download="bdd100k_images_10k.zip and bdd100k_sem_seg_labels.zip of bdd-data.berkeley.edu are needed",
        splits={"train": "train", "val": "val"},
        unlabelled={"test": "its labels are not public, a server scores predictions"},
        num_images={"train": 7000, "val": 1000},
        sources=(
            LabelSource(
                name="sem_seg",
                images="images/10k/{split}/{name}.jpg",
                labels="labels/sem_seg/masks/{split}/{name}.png",
                table="cityscapes",
            ),
            LabelSource(
                name="first_release",
                images="seg/images/{split}/{name}.jpg",
                labels="seg/labels/{split}/{name}_train_id.png",
                table="cityscapes",
                unverified="folders and suffix of the first release are from memory.",
            ),
        ),
    )
