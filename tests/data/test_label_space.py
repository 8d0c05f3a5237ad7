"""Mappings between class tables."""

import numpy as np
import pytest

from queryseg.data import label_space
from queryseg.data.class_table import CITYSCAPES, ClassTable, class_table, table_names
from queryseg.data.label_space import label_mapping
from queryseg.errors import InputError
from queryseg.types import IGNORE

ROAD = class_table(["road", "car"])

VISTAS_TO_19 = [
    {7, 8, 10, 13, 14, 23, 24}, {2, 9, 11, 15}, {17}, {6}, {3}, {44, 45, 47}, {48}, {46, 49, 50}, {30}, {29}, {27},
    {19}, {20, 21, 22}, {55}, {61}, {54}, {58}, {57}, {52},
]  # fmt: skip
GTAV_EVALUATED = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
SYNTHIA_TO_19 = {
    3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12, 8: 13, 18: 14, 19: 15, 20: 16,
    12: 17, 11: 18,
}  # fmt: skip


def mapped(source: str, target: str) -> np.ndarray:
    return np.array(label_mapping(class_table(source), class_table(target)))


def test_published_conversions() -> None:
    """The numbers that the field's conversion scripts give, independent of the names in the tables."""
    vistas = mapped("mapillary_v1.2", "cityscapes")
    assert [set(np.flatnonzero(vistas == label).tolist()) for label in range(19)] == VISTAS_TO_19
    assert (vistas == IGNORE).sum() == 66 - sum(map(len, VISTAS_TO_19))
    gtav = mapped("cityscapes_all", "cityscapes")
    assert np.flatnonzero(gtav != IGNORE).tolist() == GTAV_EVALUATED
    assert gtav[GTAV_EVALUATED].tolist() == list(range(19))
    synthia = mapped("synthia_all", "cityscapes")
    assert {raw: label for raw, label in enumerate(synthia.tolist()) if label != IGNORE} == SYNTHIA_TO_19


@pytest.mark.parametrize(
    ("table", "size", "things"),
    [
        ("cityscapes", 19, 8), ("synthia16", 16, 6), ("mapillary_v1.2", 66, 37), ("mapillary_v2.0", 124, None),
        ("ade20k", 150, 100), ("coco_panoptic", 133, 80), ("camvid", 11, 3), ("camvid_all", 32, None),
        ("idd", 26, None),
    ],
)  # fmt: skip
def test_tables(table: str, size: int, things: int | None) -> None:
    """Numbers of classes and things as published."""
    found = class_table(table)
    assert len(found) == size
    assert things is None or len(found.things) == things
    assert found.name == table in table_names()


def test_every_declared_mapping_is_complete() -> None:
    """All files of `label_mappings` parse, cover their source, and reach every class that the source can tell."""
    edges = [(source, target) for source, found in label_space._edges().items() for target in found]
    assert len(edges) >= 11
    for source, target in edges:
        mapping = mapped(source, target)
        assert len(mapping) == len(class_table(source)), (source, target)
        assert set(mapping.tolist()) <= {*range(len(class_table(target))), IGNORE}, (source, target)


def test_mappings_one_after_the_other() -> None:
    """Mapillary has no mapping to CamVid of its own: by way of Cityscapes, a truck is a car."""
    vistas, camvid = class_table("mapillary_v1.2"), class_table("camvid")
    mapping = label_mapping(vistas, camvid)
    names = {vistas.names[i]: camvid.names[label] for i, label in enumerate(mapping) if label != IGNORE}
    assert names["Truck"] == "car"
    assert names["Bicyclist"] == "bicyclist"
    assert names["Lane Marking - General"] == "road"
    assert "Bridge" not in names
    assert mapped("synthia_all", "synthia16")[[16, 18, 20, 1]].tolist() == [IGNORE, IGNORE, IGNORE, 9]


def test_equal_names_need_no_mapping() -> None:
    """The same classes in another order."""
    reverse = ClassTable("mine", CITYSCAPES.names[::-1], CITYSCAPES.colors[::-1])
    assert label_mapping(CITYSCAPES, reverse) == tuple(range(18, -1, -1))
    by_way = label_mapping(class_table("cityscapes_all"), reverse, through=CITYSCAPES)
    assert (by_way[7], by_way[33], by_way[0]) == (18, 0, IGNORE)


def test_a_table_of_known_name_with_other_classes_is_not_taken_for_it() -> None:
    """A user's own table called "cityscapes" is mapped by its names, not by the declared mapping."""
    own = ClassTable("cityscapes", ("road", "car"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(InputError, match=r"'cityscapes' \(road, car\) does not cover 66 of the 66"):
        label_mapping(class_table("mapillary_v1.2"), own)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (None, r"'custom' \(road, car\) does not cover 17 of the 19 labels of 'cityscapes': sidewalk, building"),
        ({"road": "road", "car": "car"}, r"'mapping' to 'custom' does not cover 17 of the 19 labels .* sidewalk"),
        ({"raod": "road", "ignore": "rest"}, r"names class 'raod', which is not in 'custom'\. Did you mean 'road'"),
        ({"road": "raod", "ignore": "rest"}, r"gives 'raod' to 'road', which is no class of 'cityscapes'.* 'road'"),
        ({"road": ["road", "car"], "car": "car", "ignore": "rest"}, r"names 'car' twice, at last under 'car'"),
        ({"road": "rest", "ignore": "rest"}, r"says 'rest' twice"),
        ({"road": 7, "ignore": "rest"}, r"gives 7 to 'road'; give names of labels"),
        ({"road": [7], "ignore": "rest"}, r"gives \[7\] to 'road'; give names of labels"),
    ],
)
def test_refused_mappings(rules: dict[str, object] | None, message: str) -> None:
    """Every class of the source has exactly one meaning."""
    with pytest.raises(InputError, match=message):
        label_mapping(CITYSCAPES, ROAD, rules)  # type: ignore[arg-type]
