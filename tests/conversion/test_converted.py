"""What a foreign checkpoint's classes are, and which task they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from queryseg.conversion.converted import known_classes, run_recipe
from queryseg.data.class_table import CITYSCAPES, class_table

COCO, ADE20K = class_table("coco_panoptic"), class_table("ade20k")
OBJECTS, STUFF = COCO.names[:80], COCO.names[80:]


def config(names: Sequence[str]) -> dict[str, Any]:
    """As config.json has them: labels are strings."""
    return {"id2label": {str(label): name for label, name in enumerate(names)}}


@pytest.mark.parametrize(
    ("names", "table", "task"),
    [
        (CITYSCAPES.names, "cityscapes", "semantic"),
        (COCO.names, "coco_panoptic", "panoptic"),
        (ADE20K.names, "ade20k", "semantic"),
    ],
)
@pytest.mark.parametrize("named", [True, False], ids=["by name", "by number"])
def test_published_classes_are_their_table(names: Sequence[str], table: str, task: str, named: bool) -> None:
    assert known_classes(config(names) if named else {}, len(names)) == (table, task)


def test_names_count_more_than_their_number() -> None:
    names = ["grass", *CITYSCAPES.names[1:]]
    assert known_classes(config(names), 19) == (names, "semantic")


@pytest.mark.parametrize("given", [{}, config(OBJECTS)], ids=["by number", "by name"])
def test_coco_s_objects_alone_are_an_instance_model_s(given: dict[str, Any]) -> None:
    classes, task = known_classes(given, 80)
    assert task == "instance"
    assert class_table(classes).names == OBJECTS
    assert class_table(classes).things == set(range(80))


@pytest.mark.parametrize(
    ("names", "first", "task"),
    [
        ([*OBJECTS, *(f"stuff {i}" for i in range(53))], 0, "panoptic"),
        ([*STUFF, *OBJECTS, "pasture"], 53, "semantic"),
    ],
)
def test_coco_s_objects_are_things_among_other_stuff(names: list[str], first: int, task: str) -> None:
    classes, found = known_classes(config(names), len(names))
    assert found == task
    assert class_table(classes).names == tuple(names)
    assert class_table(classes).things == set(range(first, first + 80))


def test_other_classes_have_names_only() -> None:
    assert known_classes(config(["screen", "sky", "screen"]), 3) == (["screen", "sky", "screen (2)"], "semantic")
    assert known_classes({}, 2) == (["LABEL_0", "LABEL_1"], "semantic")
    assert known_classes(config(["road"]), 2)[0] == ["road", "LABEL_1"]


def test_a_recipe_says_only_what_is_known() -> None:
    assert run_recipe({}, "cityscapes") == {"classes": "cityscapes", "model": {}}
    assert run_recipe({}, "ade20k", "panoptic", {"short_side": 640})["data"] == {
        "task": "panoptic",
        "protocol": {"short_side": 640},
    }
