"""Every layout on a tiny tree of exactly its official structure, unpacked and in archives."""

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from data_trees import (
    HEIGHT,
    PICTURE,
    WIDTH,
    WRITERS,
    Tree,
    color_columns,
    columns,
    palette_png,
    wide_rgb_png,
    write_files,
)
from scipy.io import savemat

from queryseg.data.check import check_data
from queryseg.data.class_table import class_table
from queryseg.data.data_file import LAYOUTS, layout_class, open_data
from queryseg.data.image_file import read_image
from queryseg.data.label_map import UnknownLabelsError
from queryseg.data.layouts.layout import Layout
from queryseg.errors import InputError

VOID = 255
FRANKFURT = "frankfurt/frankfurt_000000_000294"
CITY_IMAGE = {f"leftImg8bit/val/{FRANKFURT}_leftImg8bit.png": PICTURE}
CITY_GT = f"gtFine/val/{FRANKFURT}_gtFine_"
GOPR = "GOPR0476/GOPR0476_frame_000854"


def rectangle(label: str, left: int, right: int, **more: object) -> dict[str, object]:
    """A polygon over all rows and the columns left … right."""
    corners = [[left, 0], [right, 0], [right, HEIGHT - 1], [left, HEIGHT - 1]]
    return {"label": label, "polygon": corners, **more}


POLYGONS = {
    "imgHeight": HEIGHT,
    "imgWidth": WIDTH,
    "objects": [
        rectangle("road", 0, 5),
        rectangle("car", 1, 1),
        rectangle("cargroup", 2, 2),
        rectangle("car", 3, 3),
        rectangle("license plate", 3, 3),
        rectangle("parking", 4, 4),
        rectangle("sky", 5, 5, deleted=1),
    ],
}


def panoptic(folder: str, image: str, categories: dict[int, str]) -> Tree:
    """A car, a crowd of cars, a road and void, from left to right."""
    by_name = {name: id_ for id_, name in categories.items()}
    segments = [
        {"id": 300, "category_id": by_name["car"], "iscrowd": 0, "area": 4, "bbox": [0, 0, 1, 4]},
        {"id": 70000, "category_id": by_name["car"], "iscrowd": 1, "area": 4, "bbox": [1, 0, 1, 4]},
        {"id": 2, "category_id": by_name["road"], "iscrowd": 0, "area": 4, "bbox": [2, 0, 1, 4]},
    ]
    ids = columns(300, 70000, 2, 0, dtype=np.int32)
    png = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    content = {
        "images": [{"id": 1, "file_name": f"{image}.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 1, "file_name": f"{image}.png", "segments_info": segments}],
        "categories": [{"id": i, "name": name, "isthing": int(name == "car")} for i, name in categories.items()],
    }
    return {f"{folder}.json": content, f"{folder}/{image}.png": png}


@dataclass
class Case:
    """A tree, the data file that reads it, and what comes out: one row of label and instance map."""

    layout: str
    tree: Tree
    labels: list[int]
    name: str
    instances: list[int] | None = None
    keys: dict[str, object] = field(default_factory=dict)
    source: str = ""


VISTAS_ROW = columns(13, 55, 55, 21, 64, 65)
CASES = {
    "cityscapes label ids": Case(
        "cityscapes",
        {
            **CITY_IMAGE,
            f"{CITY_GT}labelIds.png": columns(7, 26, 26, 26, 9, 25),
            f"{CITY_GT}instanceIds.png": columns(7, 26000, 26001, 26, 9, 25007, dtype=np.uint16),
            f"{CITY_GT}labelTrainIds.png": columns(1),
            f"{CITY_GT}polygons.json": POLYGONS,
        },
        [0, 13, 13, 13, VOID, 12],
        FRANKFURT,
        [0, 2, 3, 0, 0, 1],  # numbered by the official id; 26 is a group of cars
        {"split": "val"},
        "label_ids",
    ),
    "cityscapes train ids": Case(
        "cityscapes",
        {**CITY_IMAGE, f"{CITY_GT}labelTrainIds.png": columns(0, 13, 18, 255)},
        [0, 13, 18, VOID, VOID, VOID],
        FRANKFURT,
        keys={"split": "val"},
        source="train_ids",
    ),
    "cityscapes polygons": Case(
        "cityscapes",
        {**CITY_IMAGE, f"{CITY_GT}polygons.json": POLYGONS},
        [0, 13, 13, 13, VOID, 0],
        FRANKFURT,
        [0, 1, 0, 2, 0, 0],
        {"split": "val"},
        "polygons",
    ),
    "cityscapes panoptic": Case(
        "cityscapes",
        {
            **CITY_IMAGE,
            f"{CITY_GT}labelIds.png": columns(7),
            **panoptic("gtFine/cityscapes_panoptic_val", f"{FRANKFURT[10:]}_gtFine_panoptic", {7: "road", 26: "car"}),
        },
        [13, 13, 0, VOID, VOID, VOID],
        "frankfurt_000000_000294",
        [1, 0, 0, 0, 0, 0],
        {"split": "val", "labels": "panoptic"},
        "panoptic",
    ),
    "cityscapes-c": Case(
        "cityscapes_c",
        {
            f"cityscapes-c/fog/5/leftImg8bit/val/{FRANKFURT}_leftImg8bit.png": PICTURE,
            f"cityscapes-c/fog/4/leftImg8bit/val/{FRANKFURT}_leftImg8bit.png": PICTURE[:2],
            f"{CITY_GT}labelIds.png": columns(7, 26),
            f"{CITY_GT}instanceIds.png": columns(7, 26000, dtype=np.uint16),
        },
        [0, 13, 13, 13, 13, 13],
        FRANKFURT,
        [0, 1, 1, 1, 1, 1],
        {"corruption": "fog"},
    ),
    "gtav palette": Case(
        "gtav",
        {"images/00001.png": PICTURE, "labels/00001.png": palette_png(columns(7, 33, 34, 0, 17, 18))},
        [0, 18, VOID, VOID, 5, VOID],
        "00001",
        source="ids",
    ),
    "gtav colours": Case(
        "gtav",
        {
            "images/00001.png": PICTURE,
            "labels/00001.png": color_columns((128, 64, 128), (0, 0, 142), (153, 153, 153), (0, 0, 0), (20, 20, 20)),
        },
        [0, 13, 5, VOID, VOID, VOID],
        "00001",
        source="colors",
    ),
    "synthia": Case(
        "synthia",
        {
            "RGB/0000000.png": PICTURE,
            "GT/LABELS/0000000.png": wide_rgb_png(
                np.stack(
                    [columns(3, 8, 8, 21, 22, 12), columns(0, 300, 301, 0, 0, 302, dtype=np.uint16), columns(0)], -1
                )
            ),
        },
        [0, 13, 13, 3, VOID, 17],
        "0000000",
        [0, 1, 2, 0, 0, 3],
    ),
    "synthia, 16 classes": Case(
        "synthia",
        {
            "RGB/0000000.png": PICTURE,
            "GT/LABELS/0000000.png": wide_rgb_png(np.stack([columns(1, 16, 10, 18, 11, 17, dtype=np.uint16)] * 3, -1)),
        },
        [9, VOID, 10, VOID, 15, 11],  # sky, terrain, person, truck, bicycle, rider
        "0000000",
        [0, 0, 1, 0, 2, 3],
        {"classes": "synthia16"},
    ),
    "urbansyn": Case(
        "urbansyn",
        {"rgb/rgb_0001.png": PICTURE, "ss/ss_0001.png": columns(0, 18, 19, 255)},
        [0, 18, VOID, VOID, VOID, VOID],
        "0001",
    ),
    "bdd100k": Case(
        "bdd100k",
        {"images/10k/val/7d06fefd.jpg": PICTURE, "labels/sem_seg/masks/val/7d06fefd.png": columns(0, 18, 255)},
        [0, 18, VOID, VOID, VOID, VOID],
        "7d06fefd",
        keys={"split": "val"},
    ),
    "bdd100k, first release": Case(
        "bdd100k",
        {"seg/images/val/7d06fefd.jpg": PICTURE, "seg/labels/val/7d06fefd_train_id.png": columns(0, 18, 255)},
        [0, 18, VOID, VOID, VOID, VOID],
        "7d06fefd",
        keys={"split": "val"},
    ),
    "mapillary v1.2": Case(
        "mapillary",
        {
            "config_v1.2.json": {"labels": [{}] * 66},
            "validation/images/a_b.jpg": PICTURE,
            "validation/v1.2/labels/a_b.png": palette_png(columns(13, 55, 55, 21, 64, 65)),
            "validation/v1.2/instances/a_b.png": columns(
                13 * 256, 55 * 256, 55 * 256 + 1, 21 * 256, 64 * 256, 65 * 256, dtype=np.uint16
            ),
            "validation/v2.0/labels/a_b.png": palette_png(columns(123)),
        },
        [0, 13, 13, 12, VOID, VOID],
        "a_b",
        [0, 2, 3, 1, 0, 0],
        {"split": "val"},
        "v1.2",
    ),
    "mapillary v1.1 download": Case(
        "mapillary",
        {
            "validation/images/a.jpg": PICTURE,
            "validation/labels/a.png": palette_png(VISTAS_ROW),
            "validation/instances/a.png": VISTAS_ROW.astype(np.uint16) * 256,
        },
        [0, 13, 13, 12, VOID, VOID],
        "a",
        [0, 2, 2, 1, 0, 0],
        {"split": "val"},
        "v1.1",
    ),
    "mapillary v2.0": Case(
        "mapillary",
        {
            "config_v2.0.json": {"labels": [{}] * 124},
            "validation/images/a.jpg": PICTURE,
            "validation/v2.0/labels/a.png": palette_png(columns(21, 108, 31, 103, 16, 123)),
            "validation/v2.0/instances/a.png": columns(21, 108, 31, 103, 16, 123, dtype=np.uint16) * 256,
        },
        [0, 13, 11, 7, VOID, VOID],
        "a",
        [0, 1, 0, 0, 0, 0],  # a group of persons is a crowd
        {"split": "val", "labels": "v2.0"},
        "v2.0",
    ),
    "mapillary, its own 66 labels": Case(
        "mapillary",
        {
            "validation/images/a.jpg": PICTURE,
            "validation/v1.2/labels/a.png": palette_png(VISTAS_ROW),
            "validation/v1.2/instances/a.png": VISTAS_ROW.astype(np.uint16) * 256,
        },
        [13, 55, 55, 21, 64, 65],
        "a",
        [0, 2, 2, 1, 0, 0],
        {"split": "val", "classes": "mapillary_v1.2"},
    ),
    "acdc, one condition": Case(
        "acdc",
        {
            f"rgb_anon/fog/val/{GOPR}_rgb_anon.png": PICTURE,
            f"gt/fog/val/{GOPR}_gt_labelTrainIds.png": columns(0, 255),
            f"gt/fog/val/{GOPR}_gt_labelIds.png": columns(7, 1),
            f"rgb_anon/fog/val_ref/{GOPR}_rgb_ref_anon.png": PICTURE,
            f"rgb_anon/night/val/{GOPR}_rgb_anon.png": PICTURE,
            f"gt/night/val/{GOPR}_gt_labelTrainIds.png": columns(1),
        },
        [0, VOID, VOID, VOID, VOID, VOID],
        GOPR,
        keys={"split": "val", "condition": "fog"},
        source="train_ids",
    ),
    "acdc, label ids of all conditions": Case(
        "acdc",
        {
            f"rgb_anon/rain/val/{GOPR}_rgb_anon.png": PICTURE,
            f"gt/rain/val/{GOPR}_gt_labelIds.png": columns(7, 33, 0),
        },
        [0, 18, VOID, VOID, VOID, VOID],
        f"rain/{GOPR}",
        keys={"split": "val"},
        source="label_ids",
    ),
    "dark zurich": Case(
        "dark_zurich",
        {
            f"rgb_anon/val/night/{GOPR}_rgb_anon.png": PICTURE,
            f"gt/val/night/{GOPR}_gt_labelTrainIds.png": columns(0, 255),
        },
        [0, VOID, VOID, VOID, VOID, VOID],
        GOPR,
    ),
    "nightcity": Case(
        "nightcity",
        {
            "NightCity-images/images/val/Image_1.png": PICTURE,
            "NightCity-label/label/val/Image_1_labelIds.png": columns(7, 33, 0),
        },
        [0, 18, VOID, VOID, VOID, VOID],
        "Image_1",
        keys={"split": "val"},
    ),
    "nightcity-fine": Case(
        "nightcity",
        {"val/img/Image_1.png": PICTURE, "val/lbl/Image_1.png": columns(0, 18, 255)},
        [0, 18, VOID, VOID, VOID, VOID],
        "Image_1",
        keys={"split": "val"},
        source="fine",
    ),
    "camvid, 32 colours": Case(
        "camvid",
        {
            "701_StillsRaw_full/0001TP_006690.png": PICTURE,
            "LabeledApproved_full/0001TP_006690_L.png": color_columns(
                (128, 64, 128), (128, 0, 192), (64, 0, 128), (192, 128, 192), (0, 0, 0), (64, 192, 0)
            ),
        },
        [3, 3, 8, 8, VOID, 1],
        "0001TP_006690",
        source="official",
    ),
    "camvid, SegNet's splits": Case(
        "camvid",
        {"val/0016E5_07959.png": PICTURE, "valannot/0016E5_07959.png": columns(0, 10, 11), "train/x.png": PICTURE},
        [0, 10, VOID, VOID, VOID, VOID],
        "0016E5_07959",
        keys={"split": "val"},
        source="segnet",
    ),
    "camvid, folders": Case(
        "camvid",
        {"val/images/0016E5_07959.jpg": PICTURE, "val/labels/0016E5_07959.png": columns(0, 10, 11)},
        [0, 10, VOID, VOID, VOID, VOID],
        "0016E5_07959",
        keys={"split": "val"},
        source="folders",
    ),
    "camvid, colours with splits, as Cityscapes": Case(
        "camvid",
        {
            "val/0016E5_07959.png": PICTURE,
            "val_labels/0016E5_07959_L.png": color_columns((128, 64, 128), (192, 0, 192)),
        },
        [0, 17, 17, 17, 17, 17],
        "0016E5_07959",
        keys={"split": "val", "classes": "cityscapes"},
        source="colors",
    ),
    "idd": Case(
        "idd",
        {
            "leftImg8bit/val/119/903127_leftImg8bit.png": PICTURE,
            "gtFine/val/119/903127_gtFine_polygons.json": {
                **POLYGONS,
                "objects": [rectangle("road", 0, 5), rectangle("autorickshaw", 1, 1), rectangle("trailer", 2, 2)],
            },
        },
        [0, 8, 12, 0, 0, 0],
        "119/903127",
        [0, 1, 2, 0, 0, 0],
        {"split": "val"},
    ),
    "idd part II as Cityscapes": Case(
        "idd",
        {
            "leftImg8bit/val/201/frame0029_leftImg8bit.jpg": PICTURE,
            "gtFine/val/201/frame0029_gtFine_polygons.json": {
                **POLYGONS,
                "objects": [rectangle("road", 0, 5), rectangle("autorickshaw", 1, 1), rectangle("train", 2, 2)],
            },
        },
        [0, VOID, 16, 0, 0, 0],
        "201/frame0029",
        [0, 0, 1, 0, 0, 0],
        {"split": "val", "classes": "cityscapes"},
    ),
    "ade20k": Case(
        "ade20k",
        {
            "images/validation/ADE_val_00000001.jpg": PICTURE,
            "annotations/validation/ADE_val_00000001.png": columns(0, 1, 13, 150),
        },
        [VOID, 0, 12, 149, 149, 149],
        "ADE_val_00000001",
        keys={"split": "val"},
    ),
    "ade20k with objects": Case(
        "ade20k",
        {
            "images/validation/ADE_val_00000001.jpg": PICTURE,
            "annotations/validation/ADE_val_00000001.png": columns(1, 13, 13, 13, 8),
            # person is the 4th category, bed the 1st; the 4th column calls a person a bed
            "annotations_instance/validation/ADE_val_00000001.png": color_columns(
                (0, 0, 0), (4, 1, 0), (4, 2, 0), (1, 1, 0), (1, 1, 0)
            ),
        },
        [0, 12, 12, 12, 7, 7],
        "ADE_val_00000001",
        [0, 2, 3, 0, 1, 1],
        {"split": "val"},
    ),
    "coco panoptic": Case(
        "coco_panoptic",
        {
            "val2017/000000000139.jpg": PICTURE,
            **panoptic("annotations/panoptic_val2017", "000000000139", {3: "car", 149: "road"}),
        },
        [2, 2, 100, VOID, VOID, VOID],
        "000000000139",
        [1, 0, 0, 0, 0, 0],
        {"split": "val"},
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_reads_the_official_structure(tmp_path: Path, case: Case, writer: str) -> None:
    """Names, pixels, classes and objects are those of the files, from folders and archives alike."""
    WRITERS[writer](tmp_path, case.tree)
    dataset = open_data({"layout": case.layout, "root": str(tmp_path), **case.keys})
    assert isinstance(dataset, Layout)
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample.name == dataset.sample_name(0) == case.name
    assert sample.image.shape == (3, HEIGHT, WIDTH)
    assert (sample.image == read_image(dataset.files(0)[0])).all()
    assert sample.label_map.dtype == torch.uint8
    assert sample.label_map.tolist() == [case.labels] * HEIGHT
    assert (dataset.read_label_map(0) == sample.label_map).all()
    if case.instances is None:
        assert sample.instance_map is None
    else:
        assert sample.instance_map is not None
        assert sample.instance_map.dtype == torch.int32
        assert sample.instance_map.tolist() == [case.instances] * HEIGHT
    if case.source:
        assert dataset.source.name == case.source
    assert [raw.label for raw in map(dataset.raw_labels().get, dataset.read_raw_labels(0)[0].tolist()) if raw] == [
        label
        for label, raw in zip(case.labels, dataset.read_raw_labels(0)[0].tolist(), strict=True)
        if raw in dataset.raw_labels()
    ]
    again = pickle.loads(pickle.dumps(dataset))
    assert (again[0].label_map == sample.label_map).all()


def test_every_layout_is_tried() -> None:
    """A layout without a case above would be untested."""
    assert {case.layout for case in CASES.values()} == {n for n in LAYOUTS if issubclass(layout_class(n), Layout)}


@pytest.mark.parametrize(
    "name", ["cityscapes label ids", "cityscapes polygons", "synthia", "mapillary v1.2", "coco panoptic"]
)
def test_objects_need_not_be_read(tmp_path: Path, name: str) -> None:
    """The same classes without instance map; files that tell objects apart are not asked for."""
    tree, keys = case(name, root=str(tmp_path), objects=False)
    write_files(tmp_path, {path: content for path, content in tree.items() if "instance" not in path})
    sample = open_data(keys)[0]
    assert sample.instance_map is None
    assert sample.label_map.tolist() == [CASES[name].labels] * HEIGHT


def case(name: str, **changes: object) -> tuple[Tree, dict[str, object]]:
    found = CASES[name]
    return dict(found.tree), {"layout": found.layout, **found.keys, **changes}


def without(tree: Tree, part: str) -> Tree:
    return {path: content for path, content in tree.items() if part not in path}


CITY, CITY_KEYS = case("cityscapes train ids")
VISTAS, VISTAS_KEYS = case("mapillary v1.2")


def test_archives_and_folders_mix(tmp_path: Path) -> None:
    """Images unpacked, labels still in the zip."""
    tree = CASES["cityscapes train ids"].tree
    write_files(tmp_path, {path: content for path, content in tree.items() if path.startswith("leftImg8bit")})
    WRITERS["archives"](tmp_path, {path: content for path, content in tree.items() if path.startswith("gtFine")})
    assert open_data({"layout": "cityscapes", "root": str(tmp_path), "split": "val"})[0].label_map[0, 1] == 13


@pytest.mark.parametrize(
    ("name", "outer"), [("bdd100k", "bdd100k"), ("ade20k", "ADEChallengeData2016"), ("ade20k with objects", "ADE")]
)
def test_a_folder_around_everything_in_an_archive(tmp_path: Path, name: str, outer: str) -> None:
    """The zips of BDD100K and ADE20K start with a folder of their own; unpacked, that folder is the root."""
    tree, keys = case(name, root=str(tmp_path / "zipped"))
    wrapped = {f"{outer}/{path}": content for path, content in tree.items()}
    WRITERS["archives"](tmp_path / "zipped", wrapped)
    assert open_data(keys)[0].label_map.tolist() == [CASES[name].labels] * HEIGHT
    write_files(tmp_path / "unpacked", wrapped)
    with pytest.raises(InputError, match=f"one folder too high: give root '.*/{outer}'"):
        open_data({**keys, "root": str(tmp_path / "unpacked")})


def test_an_archive_that_is_cut_off(tmp_path: Path) -> None:
    """One sentence that names the archive."""
    WRITERS["archives"](tmp_path, CASES["cityscapes train ids"].tree)
    archive = tmp_path / "gtFine.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"gtFine\.zip' is cut off or damaged"):
        open_data({"layout": "cityscapes", "root": str(tmp_path), "split": "val"})


@pytest.mark.parametrize(
    ("tree", "keys", "root"),
    [
        (
            {"holiday/a.png": PICTURE},
            CITY_KEYS,
            r"expects 'leftImg8bit/val/…_.*but found holiday/, notes\.zip; leftImg",
        ),
        ({f"down/{p}": c for p, c in CITY.items()}, CITY_KEYS, r"one folder too high: give root '.*/down'\."),
        ({p: c for p, c in CITY.items() if "gtFine" not in p}, CITY_KEYS, r"found 1 image .* but no label "),
    ],
)
def test_a_damaged_archive_does_not_hide_what_is_wrong_with_the_root(
    tmp_path: Path, tree: Tree, keys: dict[str, object], root: str
) -> None:
    """It may have nothing to do with the data: the sentence about the root comes first, then the archive's name. A root
    in which nothing is missing outside of archives is not disturbed."""
    write_files(tmp_path / "bad", tree)
    (tmp_path / "bad/notes.zip").write_bytes(b"PK\3\4 no zip at all")
    archive = (
        r"Archive '.*bad/notes\.zip' is cut off or damaged .*, or move it away if it is no part of the data set\.$"
    )
    with pytest.raises(InputError, match=f"{root}.*{archive}") as caught:
        open_data({**keys, "root": str(tmp_path / "bad")})
    assert "\n" not in str(caught.value)
    write_files(tmp_path / "good", CITY)
    (tmp_path / "good/notes.zip").write_bytes(b"PK\3\4 no zip at all")
    assert open_data({**CITY_KEYS, "root": str(tmp_path / "good")})[0].label_map[0, 1] == 13


def test_gtav_official_split(tmp_path: Path) -> None:
    """split.mat numbers the images of each part."""
    tree = {
        f"{kind}/0000{i}.png": PICTURE if kind == "images" else palette_png(columns(7))
        for i in range(1, 5)
        for kind in ("images", "labels")
    }
    buffer = io.BytesIO()
    savemat(buffer, {"trainIds": [[1], [3]], "valIds": [[2]], "testIds": [[4]]})
    write_files(tmp_path, tree)
    with pytest.raises(InputError, match=r"Split 'train' of GTAV needs 'split\.mat'"):
        open_data({"layout": "gtav", "root": str(tmp_path), "split": "train"})
    write_files(tmp_path, {"split.mat": buffer.getvalue()})
    names = {
        split: [open_data({"layout": "gtav", "root": str(tmp_path), "split": split}).sample_name(i) for i in range(n)]
        for split, n in (("train", 2), ("val", 1), ("all", 4))
    }
    assert names == {"train": ["00001", "00003"], "val": ["00002"], "all": ["00001", "00002", "00003", "00004"]}


def test_own_classes_by_mapping(tmp_path: Path) -> None:
    """Two classes out of Cityscapes' nineteen; the labels that are never evaluated need no word."""
    write_files(tmp_path, CASES["cityscapes label ids"].tree)
    keys = {"layout": "cityscapes", "root": str(tmp_path), "split": "val", "classes": ["ground", "vehicle"]}
    with pytest.raises(InputError, match=r"'custom' \(ground, vehicle\) does not cover 19 of the 19.*road, side"):
        open_data(keys)
    mapping = {"ground": "road", "vehicle": ["car", "truck"], "ignore": "rest"}
    assert open_data({**keys, "mapping": mapping})[0].label_map[0].tolist() == [0, 1, 1, 1, VOID, VOID]


@pytest.mark.parametrize(
    ("tree", "keys", "root", "message"),
    [
        ({f"down/{p}": c for p, c in CITY.items()}, CITY_KEYS, "", r"one folder too high: give root '.*/down'"),
        (CITY, CITY_KEYS, "leftImg8bit", r"one folder too low: give root '[^']*[^t]'\."),
        (CITY, CITY_KEYS, "leftImg8bit/val", r"two folders too low: give root"),
        (CITY, {**CITY_KEYS, "split": "vla"}, "", r"no split 'vla' in .*; found: val\."),
        (CITY, {**CITY_KEYS, "split": "train"}, "", r"no split 'train' in .*; found: val\."),
        (CITY, {**CITY_KEYS, "split": "test"}, "", r"Split 'test' .* no labels .* a server .* choose from: train, val"),
        (CITY, {"layout": "cityscapes"}, "", r"given no 'split'; choose from: train, val"),
        (CITY, {**CITY_KEYS, "labels": "polygon"}, "", r"has no labels 'polygon'\. Did you mean 'polygons'"),
        (without(CITY, "gtFine"), CITY_KEYS, "", r"found 1 image .* but no label .*labelIds\.png' or .*gtFine_train"),
        (without(CITY, "leftImg"), CITY_KEYS, "", r"found labels .* but no image .*leftImg8bit_trainvaltest\.zip"),
        ({"leftImg8bit/val/x/notes.txt": b""}, CITY_KEYS, "", r"split 'val' is empty"),
        ({"holiday/a.png": PICTURE}, CITY_KEYS, "", r"expects 'leftImg8bit/val/…_.*but found holiday/; leftImg"),
        ({**CITY, "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png": PICTURE}, CITY_KEYS, "", r"1 image has no label"),
        ({**CITY, f"{CITY_GT}labelTrainIds.png": columns(0)[:1, :1]}, CITY_KEYS, "", r"6×4 pixels, but its .* 1×1"),
        (VISTAS | {"validation/v1.2/labels/a_b.png": palette_png(columns(100))}, VISTAS_KEYS, "",
         r"none of the 66 labels of 'mapillary_v1\.2': 100 \(24 pixels\); ids from 66 .* 'labels: v2\.0'"),
        (VISTAS | {"config_v1.2.json": {"labels": [{}] * 124}}, VISTAS_KEYS, "", r"lists 124 labels.* 'labels: v2\.0'"),
        (VISTAS | {"validation/images/c.jpg": PICTURE, "validation/v1.2/labels/c.png": palette_png(columns(1))},
         VISTAS_KEYS, "", r"1 of 2 labels .* no file that tells objects apart"),
        (*case("acdc, one condition", condition="mist"), "", r"no condition 'mist'; choose from: fog, night"),
        (*case("acdc, one condition", split="test"), "", r"Split 'test' of ACDC has no labels to read"),
        (*case("cityscapes-c", severity=6), "", r"'severity' is 6; give a whole number from 1 to 5"),
        (*case("cityscapes-c", severity=3), "", r"no severity '3' in '.*cityscapes-c'; found: 4, 5\."),
        (*case("cityscapes-c", corruption="foog"), "", r"no corruption 'foog' in '.*cityscapes-c'; found: fog\."),
        (*case("acdc, label ids of all conditions", split="vall"), "", r"no split 'vall' in .*; found: val\."),
        (CITY, CITY_KEYS, "gtFine", r"one folder too low: give root"),
        (*case("camvid, SegNet's splits", split="test"), "", r"no split 'test' in .*; found: train, val\."),
        (*case("gtav palette", split="minival"), "", r"GTAV has no split 'minival'; choose from: all, train, val"),
        (*case("mapillary v1.2", classes="camvid"), "", None),
        (*case("coco panoptic", classes="idd"), "", r"'idd' .* does not cover"),
        (*case("bdd100k", objects="no"), "", r"'objects' is 'no'; choose true or false"),
        (*case("bdd100k", mapping="road"), "", r"'mapping' is 'road'; give classes with their labels"),
    ],
)  # fmt: skip
def test_bad_input(tmp_path: Path, tree: Tree, keys: dict[str, object], root: str, message: str | None) -> None:
    """One sentence each that names what was expected and what was found; None: it is no bad input at all."""
    write_files(tmp_path, tree)
    content = {**keys, "root": str(tmp_path / root)}
    if message is None:
        open_data(content)[0]
        return
    with pytest.raises(InputError, match=message) as caught:
        open_data(content)[0]
    assert "\n" not in str(caught.value)


def test_an_image_of_one_pixel(tmp_path: Path) -> None:
    """The smallest image is an image."""
    pixel = {
        f"leftImg8bit/val/{FRANKFURT}_leftImg8bit.png": PICTURE[:1, :1],
        f"{CITY_GT}labelIds.png": columns(26)[:1, :1],
        f"{CITY_GT}instanceIds.png": columns(26001, dtype=np.uint16)[:1, :1],
    }
    write_files(tmp_path, pixel)
    sample = open_data({"layout": "cityscapes", "root": str(tmp_path), "split": "val"})[0]
    assert (sample.label_map.tolist(), sample.instance_map.tolist()) == ([[13]], [[1]])


def test_unknown_values_are_counted(tmp_path: Path) -> None:
    """`data check` sums them up by value."""
    write_files(tmp_path, CITY | {f"{CITY_GT}labelTrainIds.png": columns(0, 77)})
    dataset = open_data({"layout": "cityscapes", "root": str(tmp_path), "split": "val"})
    with pytest.raises(UnknownLabelsError) as caught:
        dataset.read_label_map(0)
    assert caught.value.counts == {"77": 20}


def test_notes(tmp_path: Path) -> None:
    """An incomplete split and an unverified layout are said; a full one is not."""
    write_files(tmp_path, CITY)
    dataset = open_data({"layout": "cityscapes", "root": str(tmp_path), "split": "val"})
    assert isinstance(dataset, Layout)
    assert [note[:56] for note in dataset.notes()] == ["Split 'val' of Cityscapes has 500 images, but 1 are here"]
    write_files(tmp_path / "u", CASES["urbansyn"].tree)
    urbansyn = open_data({"layout": "urbansyn", "root": str(tmp_path / "u")})
    assert isinstance(urbansyn, Layout)
    assert urbansyn.notes()[0].startswith("Layout 'urbansyn' with labels 'ids' is unverified: the folders are")
    report = check_data(urbansyn)
    assert report.ok
    assert report.to_json()["notes"] == list(urbansyn.notes())
    assert urbansyn.notes()[0] in report.lines()


def test_ade20k_categories_are_its_things_in_order() -> None:
    """The instance challenge numbers bed, windowpane, cabinet, person … from 1."""
    table = class_table("ade20k")
    assert [table.names[i] for i in sorted(table.things)[:4]] == ["bed", "windowpane", "cabinet", "person"]
    assert len(table.things) == 100
