import pytest

from queryseg.data.class_table import CAMVID, CITYSCAPES, CITYSCAPES_IDS, ClassTable, class_table, distinct_colors
from queryseg.errors import InputError


def test_official_tables() -> None:
    assert len(CITYSCAPES) == len(CITYSCAPES.colors) == 19
    assert CITYSCAPES.names[0] == "road"
    assert CITYSCAPES.names[18] == "bicycle"
    assert CITYSCAPES.colors[CITYSCAPES.index("car")] == (0, 0, 142)
    assert {CITYSCAPES.names[i] for i in CITYSCAPES.things} == {
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    }  # fmt: skip
    assert len(CITYSCAPES_IDS) == 34
    assert CITYSCAPES_IDS[26] == CITYSCAPES.index("car")
    assert sorted(label for label in CITYSCAPES_IDS.values() if label != 255) == list(range(19))
    assert len(CAMVID) == 11
    assert CAMVID.index("bicyclist") == 10


def test_from_name_list_and_mapping() -> None:
    assert class_table("camvid") is CAMVID
    assert class_table(CAMVID) is CAMVID
    listed = class_table(["road", "car"])
    assert listed.names == ("road", "car")
    assert listed.colors[0] != listed.colors[1]
    mapped = class_table(
        {"names": ["road", "car"], "colors": [[1, 2, 3], [4, 5, 6]], "things": ["car"], "name": "mine"}
    )
    assert mapped == ClassTable("mine", ("road", "car"), ((1, 2, 3), (4, 5, 6)), frozenset({1}))


def test_chosen_colors_differ() -> None:
    assert len(set(distinct_colors(150))) == 150


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cityscape", "Did you mean 'cityscapes'"),
        (["road", "road"], "'road' twice"),
        ([], "1 to 254"),
        ([str(i) for i in range(255)], "1 to 254"),
        (["road", True], "list of words"),
        (7, "a table's name"),
        ({"names": ["road"], "color": []}, "Did you mean 'colors'"),
        ({"colors": []}, "needs 'names'"),
        ({"names": ["road"], "colors": []}, "1 names and 0 colors"),
        ({"names": ["road"], "colors": [[0, 0, 256]]}, "0 to 255"),
        ({"names": ["road"], "things": ["roda"]}, "Did you mean 'road'"),
    ],
)
def test_refused(source: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_table(source)  # type: ignore[arg-type]
