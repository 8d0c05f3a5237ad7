"""Which classes come when: sizes, names, orders, and splits that are none."""

from __future__ import annotations

import pytest

from queryseg.data.class_split import split_by_name, split_by_size
from queryseg.data.class_table import CITYSCAPES, class_table
from queryseg.errors import RecipeError

FIVE = class_table(["sky", "road", "car", "tree", "sign"])


def test_sizes_take_the_table_in_its_order():
    """ADE20K 100-10: six steps; classes 100 … 109 are new in the second one, 110 … 149 still to come."""
    split = split_by_size(class_table("ade20k"), [100, 10, 10, 10, 10, 10])
    assert len(split) == 6
    assert split.current(2) == list(range(100, 110))
    assert split.old(2) == list(range(100))
    assert split.seen(2) == list(range(110))
    assert split.future(2) == list(range(110, 150))
    groups = split.groups(3)
    assert {name: (len(labels), labels[0]) for name, labels in groups.items()} == {
        "base": (100, 0),
        "old": (110, 0),
        "current": (10, 110),
        "new": (20, 100),
        "all": (120, 0),
    }


def test_an_order_is_any_permutation_and_a_drawn_one_belongs_to_its_seed():
    listed = split_by_size(FIVE, [2, 3], ["sign", 0, "tree", 1, 2])
    assert listed.steps == ((4, 0), (3, 1, 2))
    drawn = [split_by_size(CITYSCAPES, [11, 2, 2, 2, 2], "random", seed).steps for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert sorted(label for step in drawn[0] for label in step) == list(range(19))


def test_groups_are_steps_with_names():
    split = split_by_name(FIVE, {"ground": ["road", "sky"], "objects": ["car", 3, "sign"]})
    assert split.names == ("ground", "objects")
    assert split.steps == ((1, 0), (2, 3, 4))
    assert split.joined().steps == ((0, 1, 2, 3, 4),)


@pytest.mark.parametrize(
    ("sizes", "order", "message"),
    [
        ([2, 2], "table", r"adds up to 4 classes, but 'custom' has 5"),
        ([5, 0], "table", "every step needs at least one class"),
        ([], "table", "every step needs at least one class"),
        ([2, 3], ["sky", "road", "car", "tree", "sky"], "'sky' is in continual.order twice"),
        ([2, 3], ["sky", "road", "car", "tree"], "'sign' is in no step"),
        ([2, 3], ["sky", "road", "car", "tree", "sing"], r"unknown class 'sing'.*'sign'"),
        ([2, 3], [0, 1, 2, 3, 5], "holds 5, but the labels of 'custom' are 0 to 4"),
    ],
)
def test_sizes_that_do_not_fit(sizes, order, message):
    with pytest.raises(RecipeError, match=message):
        split_by_size(FIVE, sizes, order)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["sky", "road", "car"], "b": ["tree", "sign", "sky"]}, "'sky' is in step 'a' and step 'b'"),
        ({"a": ["sky"], "b": ["tree", "sign"]}, r"'road' \(and 1 more\) is in no step"),
        ({"a": ["sky", "road", "car", "tree", "sign"], "b": []}, "step 'b' has no class"),
    ],
)
def test_groups_that_do_not_fit(groups, message):
    with pytest.raises(RecipeError, match=message):
        split_by_name(FIVE, groups)
