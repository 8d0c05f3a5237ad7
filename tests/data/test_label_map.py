import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queryseg.data.class_table import CAMVID, CITYSCAPES, CITYSCAPES_IDS, class_table
from queryseg.data.image_file import LabelArray, pack_color
from queryseg.data.label_map import LabelMap, UnknownLabelsError, pixels_per_label
from queryseg.errors import InputError

TWO = class_table(["road", "vehicle"])


def test_merging_and_ignoring_ids() -> None:
    label_map = LabelMap.parse({"road": 7, "vehicle": [26, 27, 28], "ignore": [0, 1, 255]}, TWO)
    values = np.array([[7, 26, 27], [28, 0, 255]], np.uint8)
    assert label_map.kind == "ids"
    assert label_map.apply(values, "x.png").tolist() == [[0, 1, 1], [1, 255, 255]]


def test_colors() -> None:
    label_map = LabelMap.parse(
        {"road": [[128, 64, 128]], "vehicle": [[0, 0, 142], [255, 0, 0]], "ignore": [[0, 0, 0]]}, TWO
    )
    values = np.array([[pack_color((128, 64, 128)), pack_color((0, 0, 142)), 255, 0]], np.uint32)
    assert label_map.kind == "colors"
    assert label_map.apply(values, "x.png").tolist() == [[0, 1, 1, 255]]
    with pytest.raises(UnknownLabelsError, match=r"\[1, 2, 3\] \(2 pixels\)") as caught:
        label_map.apply(np.full((1, 2), pack_color((1, 2, 3)), np.uint32), "x.png")
    assert caught.value.counts == {"[1, 2, 3]": 2}


def test_presets() -> None:
    ids = np.arange(34, dtype=np.uint8)[None]
    assert LabelMap.parse("cityscapes_ids", CITYSCAPES).apply(ids, "x")[0].tolist() == list(CITYSCAPES_IDS.values())
    train_ids = np.array([[*range(19), 255]], np.uint8)
    for preset in ("cityscapes_train_ids", "identity"):
        assert (LabelMap.parse(preset, CITYSCAPES).apply(train_ids, "x").numpy() == train_ids).all()
    void = LabelMap.parse({"preset": "identity", "ignore": 11}, CAMVID)
    assert void.apply(np.array([[10, 11]], np.uint8), "x").tolist() == [[10, 255]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_outside_are_refused_with_file_values_and_counts(dtype: type[np.uint8] | type[np.uint16]) -> None:
    label_map = LabelMap.parse("identity", TWO)
    values: LabelArray = np.array([[0, 1, 7], [7, 254, 255]], np.uint8)
    with pytest.raises(UnknownLabelsError, match=r"'city/a\.png'.*7 \(2 pixels\), 254 \(1 pixels\)") as caught:
        label_map.apply(values if dtype is np.uint8 else values.astype(np.uint16), "city/a.png")
    assert caught.value.counts == {"7": 2, "254": 1}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"roda": 1}, "Did you mean 'road'"),
        ({"road": 1, "ignor": 2}, "Did you mean 'ignore'"),
        ("identety", "Did you mean 'identity'"),
        ("cityscapes_ids", "19 classes"),
        ({"road": 255}, "255 is never a class"),
        ({"road": [1], "vehicle": [1]}, "1 twice"),
        ({"road": [1, 1]}, "1 twice"),
        ({"road": [[1, 2, 3]], "vehicle": [[1, 2, 3]]}, "twice"),
        ({"road": [1], "vehicle": [[1, 2, 3]]}, "mixes ids and colors"),
        ({"preset": "identity", "ignore": [[1, 2, 3]]}, "mixes ids and colors"),
        ({"preset": "identity", "ignore": [1]}, "1 twice"),
        ({"preset": "identity", "road": [7]}, "only 'ignore'"),
        ({"road": ["7"]}, "whole numbers"),
        ({"road": -1}, "whole numbers"),
        ({"road": 65536}, "whole numbers"),
        ({"road": True}, "whole numbers"),
        ({"road": [[1, 2]]}, "three whole numbers"),
        ({}, "give one of"),
        (None, "give one of"),
    ],
)
def test_refused_maps(source: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelMap.parse(source, TWO)  # type: ignore[arg-type]


maps = st.dictionaries(st.integers(0, 400), st.sampled_from(["road", "vehicle", "ignore"]), min_size=1).map(
    lambda d: {value: name for value, name in d.items() if value != 255 or name == "ignore"} or {0: "road"}
)


@given(maps, st.lists(st.integers(0, 400), min_size=1), st.booleans())
def test_equals_a_dictionary(meaning: dict[int, str], values: list[int], wide: bool) -> None:
    source: dict[str, list[int]] = {}
    for value, name in meaning.items():
        source.setdefault(name, []).append(value)
    label_map = pickle.loads(pickle.dumps(LabelMap.parse(source, TWO)))
    if not wide:
        values = [value % 256 for value in values]
    array = np.array([values], np.uint16 if wide else np.uint8)
    unknown = {str(value): values.count(value) for value in values if value not in meaning}
    if unknown:
        with pytest.raises(UnknownLabelsError) as caught:
            label_map.apply(array, "x")
        assert caught.value.counts == unknown
    else:
        labels = {"road": 0, "vehicle": 1, "ignore": 255}
        assert label_map.apply(array, "x").tolist() == [[labels[meaning[value]] for value in values]]


def test_pixels_per_label() -> None:
    counts = pixels_per_label(LabelMap.parse("identity", TWO).apply(np.array([[0, 1, 1, 255]], np.uint8), "x"))
    assert counts.shape == (256,)
    assert {label: int(n) for label, n in enumerate(counts) if n} == {0: 1, 1: 2, 255: 1}


def test_ade20k_begins_at_one():
    label_map = LabelMap.parse("ade20k_ids", class_table("ade20k"))
    assert label_map.apply(np.array([[0, 1, 150]], np.uint8), "x.png").tolist() == [[255, 0, 149]]
    with pytest.raises(InputError, match="for the 150 classes of 'ade20k', but 'cityscapes' has 19"):
        LabelMap.parse("ade20k_ids", class_table("cityscapes"))
    with pytest.raises(UnknownLabelsError):
        label_map.apply(np.array([[151]], np.uint8), "x.png")
    names = class_table("ade20k").names
    assert (names[0], names[12], names[136], names[149]) == ("wall", "person", "traffic light", "flag")
