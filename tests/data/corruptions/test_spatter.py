import numpy as np
import pytest
from numpy.typing import NDArray

from queryseg.data.corruptions.draws import Draws
from queryseg.data.corruptions.spatter import MUD, SPATTER, WATER, edges, equalised, spatter

Values = NDArray[np.float32]


def test_edges_of_a_square_are_one_pixel_wide_and_closed() -> None:
    square = np.zeros((20, 24), np.uint8)
    square[6:14, 5:18] = 200
    found = edges(square)
    rows, columns = np.nonzero(found)
    assert {rows.min(), rows.max()} <= {5, 6, 13, 14}
    assert {columns.min(), columns.max()} <= {4, 5, 17, 18}
    assert found[8:12].sum(1).tolist() == [2, 2, 2, 2]
    assert found[:, 8:15].sum(0).tolist() == [2] * 7
    assert not edges(np.full((9, 9), 90, np.uint8)).any()


def test_weak_edges_stay_where_they_touch_strong_ones() -> None:
    """Steps of 10 levels have a gradient of 40, below both thresholds; of 20: 80, between them; of 60: 240."""
    steps = np.zeros((30, 40), np.uint8)
    steps[:, 20:] = 20
    assert not edges(steps).any()
    steps[:15, 20:] = 60
    found = edges(steps)
    assert found[:, 18:22].any(1).all()
    steps[:, 20:] = 10
    assert not edges(steps).any()


def test_equalised_levels_hold_equal_shares() -> None:
    pixels = np.array([3, 3, 7, 7, 9, 9, 200, 200], np.uint8)
    assert equalised(pixels).tolist() == [0, 0, 85, 85, 170, 170, 255, 255]
    assert equalised(np.full(4, 9, np.uint8)).tolist() == [9] * 4


@pytest.mark.parametrize("level", [1, 2, 3])
def test_water_brightens_in_its_own_colour(level: int) -> None:
    grey = np.full((3, 120, 160), 0.25, np.float32)
    added = spatter(grey, SPATTER[level - 1], Draws("w")) - grey
    assert added.max() == pytest.approx(SPATTER[level - 1].strength * 238 / 255, abs=1e-5)
    assert added.min() == 0
    assert added[0] == pytest.approx(added[1] * WATER[0] / WATER[1], abs=1e-6)
    assert 0.01 < (added[0] > 0.05).mean() < 0.3


@pytest.mark.parametrize("level", [4, 5])
def test_mud_covers(level: int) -> None:
    """Between the image and mud by at least 0.8, or the image itself."""
    white = np.ones((3, 120, 160), np.float32)
    muddy = spatter(white, SPATTER[level - 1], Draws("m"))
    cover = (1 - muddy) / (1 - np.array(MUD, np.float32)[:, None, None] / 255)
    assert np.ptp(cover, 0).max() < 1e-5
    assert set(np.unique(cover[0] > 0.8 - 1e-5)) == {False, True}
    assert cover[0][(cover[0] > 1e-5)].min() > 0.8 - 1e-5
    assert 0.01 < (cover[0] > 0).mean() < 0.5


def test_more_mud_at_level_5(values: Values) -> None:
    white = np.ones((3, 200, 200), np.float32)
    shares = [(spatter(white, SPATTER[level], Draws("m")) < 1).mean() for level in (3, 4)]
    assert shares[1] > 1.2 * shares[0]
