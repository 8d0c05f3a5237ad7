"""Classes that differ are told in one sentence: how many, or which label."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from queryseg.errors import InputError
from queryseg.evaluation.class_agreement import check_classes, check_same_classes

FOUR = ("road", "car", "sky", "pole")


def dataset(names: tuple[str, ...]) -> Any:
    return SimpleNamespace(classes=SimpleNamespace(names=names))


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        (("road",), "knows 4 classes (road, car … pole), but {} has 1 (road); "),
        (("road", "car", "pole", "sky"), "knows label 2 as 'sky', but {} as 'pole'; "),
    ],
)
def test_what_differs_is_told(given: tuple[str, ...], difference: str) -> None:
    check_classes(list(FOUR), dataset(FOUR), "fog")
    with pytest.raises(InputError) as error:
        check_classes(FOUR, dataset(given), "fog")
    advice = "give the data file the model's classes and a label_map that leads to them."
    assert str(error.value) == "The model " + difference.format("data set 'fog'") + advice
    check_same_classes({"a": FOUR, "b": list(FOUR)})
    with pytest.raises(InputError) as error:
        check_same_classes({"a": FOUR, "b": FOUR, "c": given})
    advice = "a matrix compares runs of the same classes, evaluate these one by one."
    assert str(error.value) == "Run 'a' " + difference.format("run 'c'") + advice
