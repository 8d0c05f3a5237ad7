"""Looks: many, deterministic, and nothing of the unseen domains in them."""

from __future__ import annotations

import numpy as np
import pytest

from queryseg.data.streets import render
from queryseg.data.streets.city import OTHER, City
from queryseg.data.streets.dice import Dice, generator
from queryseg.data.streets.domains import TABLE, Domain
from queryseg.data.streets.looks import CONIFERS, DISTANCE, FOREIGN, PROPORTIONS, STOREYS, draw_look, render_look
from queryseg.data.streets.mesh import Colour
from queryseg.errors import InputError

SIZE = (64, 128)


@pytest.fixture(scope="module")
def looks() -> list[Domain]:
    return [draw_look(Dice(generator(0, index))) for index in range(200)]


def test_no_look_has_weather_or_lamps(looks: list[Domain]) -> None:
    for name in ("lamps", "lit", "wet", "streaks", "snow", "flakes"):
        assert {getattr(look, name) for look in looks} == {0}, name
    thinnest = min(TABLE[domain].haze[0] for domain in ("fog", "rain", "snow"))
    assert max(look.haze[1] for look in looks) < thinnest
    darkest, brightest_night = min(min(look.ambient) for look in looks), max(TABLE["night"].ambient)
    assert darkest > brightest_night


@pytest.mark.parametrize("name", PROPORTIONS)
def test_no_look_has_the_proportions_of_the_other_city(name: str, looks: list[Domain]) -> None:
    low, high = getattr(OTHER, name)
    drawn = [getattr(look.city, name) for look in looks]
    assert not (min(a for a, _ in drawn) <= low and high <= max(b for _, b in drawn))


def test_no_look_has_the_houses_and_trees_of_the_other_city(looks: list[Domain]) -> None:
    assert STOREYS[1] < OTHER.storeys[1]
    assert max(look.city.tall_trees for look in looks) < OTHER.tall_trees
    assert CONIFERS[1] < OTHER.conifers
    assert min(look.city.roofs for look in looks) > OTHER.roofs
    assert not any("windows_band" in look.city.facades for look in looks)


def colours_of(city: City) -> list[Colour]:
    return [*city.colours, *city.leaves, *city.lawns, *city.asphalt, *city.paving, city.line]


def test_no_look_has_a_colour_of_the_other_city(looks: list[Domain]) -> None:
    assert set(FOREIGN) <= set(colours_of(OTHER))
    assert len(FOREIGN) > 15
    foreign, drawn = np.array(FOREIGN), np.array([colour for look in looks for colour in colours_of(look.city)])
    assert np.linalg.norm(drawn[:, None] - foreign, axis=2).min() >= DISTANCE


def test_looks_are_many(looks: list[Domain]) -> None:
    assert len({look.city.colours for look in looks}) == len(looks)
    means = np.array([render_look(0, index, SIZE).image.mean() for index in range(40)])
    clear = np.array([render("clear", 0, index, SIZE).image.mean() for index in range(40)])
    assert means.std() > 2 * clear.std()


def test_a_look_is_a_function_of_its_number() -> None:
    first, again, other = render_look(1, 2, SIZE), render_look(1, 2, SIZE), render_look(1, 3, SIZE)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.depth, again.depth)
    assert not np.array_equal(first.image, other.image)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="seed of streets is -1"):
        render_look(-1, 0, SIZE)
    with pytest.raises(InputError, match="cannot be drawn"):
        render_look(0, 0, (8, 8))
