"""The recipes' data settings read data sets as they are published, and every id means the right class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from queryseg.data.class_table import CITYSCAPES
from queryseg.recipe import DataSettings
from queryseg.recipe_file import read_recipe, resolve
from queryseg.training.loading import open_checked

QPROMPT_R1 = Path(__file__).parents[2] / "recipes" / "qprompt_r1"
ROAD, POLE, LIGHT, CAR, BICYCLE, VOID = 0, 5, 6, 13, 18, 255
LABEL_IDS = {7: ROAD, 17: POLE, 19: LIGHT, 26: CAR, 33: BICYCLE, 0: VOID, 4: VOID, 29: VOID}
TRAIN_IDS = {ROAD: ROAD, POLE: POLE, LIGHT: LIGHT, CAR: CAR, BICYCLE: BICYCLE, VOID: VOID}
VISTAS = {13: ROAD, 24: ROAD, 45: POLE, 48: LIGHT, 55: CAR, 52: BICYCLE, 4: VOID, 65: VOID}
TREES = {
    "gtav": ("gtav/images/00001.png", "gtav/labels/00001.png", LABEL_IDS | {34: VOID}),
    "cityscapes": (
        "cityscapes/leftImg8bit/{split}/ulm/ulm_000000_000019_leftImg8bit.png",
        "cityscapes/gtFine/{split}/ulm/ulm_000000_000019_gtFine_labelIds.png",
        LABEL_IDS,
    ),
    "bdd100k": ("bdd100k/images/10k/val/7d-5.jpg", "bdd100k/labels/sem_seg/masks/val/7d-5.png", TRAIN_IDS),
    "mapillary": ("mapillary/validation/images/-a_B.jpg", "mapillary/validation/v1.2/labels/-a_B.png", VISTAS),
    "acdc": (
        "acdc/rgb_anon/{condition}/val/GP01/GP01_frame_01_rgb_anon.png",
        "acdc/gt/{condition}/val/GP01/GP01_frame_01_gt_labelTrainIds.png",
        TRAIN_IDS,
    ),
}
"""Data set → path of an image, path of its label, ids of the label file → what they mean."""
CONDITIONS = ["fog", "night", "rain", "snow"]
CORRUPTIONS = [
    "motion_blur", "defocus_blur", "glass_blur", "gaussian_blur", "gaussian_noise", "impulse_noise", "shot_noise",
    "speckle_noise", "brightness", "contrast", "saturate", "jpeg_compression", "snow", "spatter", "fog", "frost",
]  # fmt: skip


def write(root: Path, image: str, label: str, ids: dict[int, int], mode: str = "P") -> None:
    for path in (root / image, root / label):
        path.parent.mkdir(parents=True, exist_ok=True)
    values = np.array([list(ids)], np.uint8).repeat(2, 0)
    Image.fromarray(np.zeros((*values.shape, 3), np.uint8)).save(root / image)
    written = Image.fromarray(values)
    if mode == "P":  # GTAV's and Vistas' files carry colours beside their ids
        written.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    written.save(root / label)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, (image, label, ids) in TREES.items():
        for split in ("train", "val") if name == "cityscapes" else ("",):
            for condition in CONDITIONS if name == "acdc" else ("",):
                places = {"split": split, "condition": condition}
                mode = "P" if name in ("gtav", "mapillary") else "L"
                write(root, image.format(**places), label.format(**places), ids, mode)
    image, label, ids = TREES["cityscapes"]
    clean = Image.open(root / image.format(split="val"))
    Image.new("L", clean.size).save(root / label.format(split="val").replace("labelIds", "instanceIds"))
    for corruption in CORRUPTIONS:
        path = root / image.format(split="val").replace("cityscapes/", f"cityscapes-c/{corruption}/5/")
        path.parent.mkdir(parents=True)
        clean.save(path)
    return root


@pytest.mark.parametrize(
    ("recipe", "train", "targets"),
    [
        ("gtav", "gtav", ["cityscapes", "bdd100k", "mapillary"]),
        ("gtav_qprompt", "gtav", ["cityscapes", "bdd100k", "mapillary"]),
        ("ladder_mlp_head", "gtav", ["cityscapes", "bdd100k", "mapillary"]),
        ("gtav_clip", "gtav", ["cityscapes", "bdd100k", "mapillary"]),
        ("gtav_sam", "gtav", ["cityscapes", "bdd100k", "mapillary"]),
        ("cityscapes", "cityscapes", ["cityscapes", "bdd100k", "mapillary"]),
        ("cityscapes_to_acdc", "cityscapes", ["cityscapes", *CONDITIONS]),
        ("cityscapes_to_cityscapes_c", "cityscapes", ["cityscapes", *CORRUPTIONS]),
    ],
)
def test_labels_of_every_data_set_mean_what_they_should(recipe, train, targets, published):
    content = resolve(read_recipe(QPROMPT_R1 / f"{recipe}.yaml"))["data"]
    data = DataSettings(content["train"], str(published), content["validate"])
    assert list(data.validate) == targets
    sets = {"train": data.train, **data.validate}
    for name, source in sets.items():
        dataset = open_checked(source, data, CITYSCAPES, name)
        assert len(dataset) == 1
        group = train if name == "train" else "acdc" if recipe.endswith("acdc") and name in CONDITIONS else name
        ids = TREES["cityscapes" if name in CORRUPTIONS and group != "acdc" else group][2]
        assert dataset.read_label_map(0)[0].tolist() == list(ids.values()), name
        assert (name if name != "train" else train) in dataset.files(0)[0].relative_to(published).as_posix()
