"""Patterns of paths."""

import pytest

from queryseg.data.path_pattern import PathPattern

CITY = PathPattern("leftImg8bit/{split}/{name}_leftImg8bit.{png|jpg}")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("leftImg8bit/val/ulm/ulm_1_leftImg8bit.png", {"split": "val", "name": "ulm/ulm_1"}),
        ("leftImg8bit/val/ulm_1_leftImg8bit.jpg", {"split": "val", "name": "ulm_1"}),
        ("leftImg8bit/val/ulm/ulm_1_leftImg8bit.tif", None),
        ("leftImg8bit/ulm_1_leftImg8bit.png", None),
        ("x/leftImg8bit/val/ulm_1_leftImg8bit.png", None),
    ],
)
def test_match(path: str, fields: dict[str, str] | None) -> None:
    """Whole paths; {name} may be several folders deep, other fields are one."""
    assert CITY.match(path) == fields


def test_folder_and_fields() -> None:
    """What is known before anything is listed."""
    assert (CITY.folder, CITY.fields) == ("leftImg8bit", ("split", "name"))
    assert CITY.fill(split="val").folder == "leftImg8bit/val"
    assert CITY.fill(split=None) == CITY
    assert PathPattern("{split}/img/{name}.png").folder == ""
    assert str(CITY.fill(split="val")) == "leftImg8bit/val/…_leftImg8bit.{png|jpg}"


def test_dots_are_dots() -> None:
    """A pattern is no regular expression."""
    assert PathPattern("a.{name}").match("ab1") is None
