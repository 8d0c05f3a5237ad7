"""Layout `dark_zurich`: Dark Zurich, streets at night.

    Dark_Zurich_val_anon.zip    rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png
                                gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelTrainIds.png  …_gt_labelIds.png

Only the 50 images of the validation split have public labels.

Source: https://www.trace.ethz.ch/publications/2019/GCMA_UIoU; paths as in a configuration of mmsegmentation 1.2.2.
"""

from __future__ import annotations

from queryseg.data.layouts.cityscapes import LABEL_IDS
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource
from queryseg.data.layouts.layout import Layout

IMAGES = "rgb_anon/{split}/night/{name}_rgb_anon.png"


class DarkZurich(Layout):
    """50 labelled images, 1080×1920."""

    card = DatasetCard(
        title="Dark Zurich",
        download="Dark_Zurich_val_anon.zip of trace.ethz.ch is needed",
        splits={"val": "val"},
        unlabelled={
            "train": "its images have no labels",
            "test": "its labels are not public, a server scores predictions",
        },
        num_images={"val": 50},
        sources=(
            LabelSource(
                name="train_ids",
                images=IMAGES,
                labels="gt/{split}/night/{name}_gt_labelTrainIds.png",
                table="cityscapes",
            ),
            LabelSource(
                name="label_ids",
                images=IMAGES,
                labels="gt/{split}/night/{name}_gt_labelIds.png",
                table="cityscapes_all",
                values=LABEL_IDS,
            ),
        ),
        unverified=(
            "paths and suffixes are those that mmsegmentation reads, but the download itself (archive, label ids) "
            "was not seen."
        ),
    )
