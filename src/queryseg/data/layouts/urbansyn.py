"""Layout `urbansyn`: UrbanSyn, rendered images with Cityscapes' classes.

    rgb/rgb_0001.png
    ss/ss_0001.png         train ids, 19 or 255 where nothing is labelled
    ss_color/  panoptic/  bbox2d/  depth/

Source: https://www.urbansyn.org; folders as on the data set's page at Hugging Face, file names from memory.
"""

from __future__ import annotations

from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource
from queryseg.data.layouts.layout import Layout
from queryseg.types import IGNORE


class UrbanSyn(Layout):
    """7,539 images, 1024×2048."""

    card = DatasetCard(
        title="UrbanSyn",
        download="the folders rgb and ss of urbansyn.org are needed",
        splits={"all": ""},
        num_images={"all": 7539},
        sources=(
            LabelSource(
                name="ids",
                images="rgb/rgb_{name}.png",
                labels="ss/ss_{name}.png",
                table="cityscapes",
                values={**{label: label for label in range(19)}, 19: IGNORE, IGNORE: IGNORE},
            ),
        ),
        unverified=(
            "the folders are those of the published listing, but file names (rgb_0001.png, ss_0001.png) and values "
            "(train ids, 19 and 255 unlabelled) are from memory; its panoptic files are not read."
        ),
    )
