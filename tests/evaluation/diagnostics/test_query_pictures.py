import numpy as np
import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.evaluation.chart import DENSITY
from queryseg.evaluation.diagnostics import Diagnosis
from queryseg.evaluation.diagnostics.map_picture import free_box
from queryseg.evaluation.diagnostics.panels import WIDTH, overview
from queryseg.evaluation.diagnostics.query_pictures import PICTURES, diverging

CLASSES = class_table({"names": ["a", "b", "c"], "colors": [[200, 0, 0], [0, 200, 0], [0, 0, 200]]})


@pytest.fixture
def diagnosis(circle):
    """Of two data sets."""

    def build(num_queries: int = 4) -> Diagnosis:
        seen = circle()
        seen = circle(classes=seen.classes[:, :num_queries], embeddings=seen.embeddings[:, :num_queries])
        return Diagnosis.of({"home": seen, "away": seen}, CLASSES)

    return build


@pytest.mark.parametrize("name", PICTURES)
def test_panels_of_runs_with_different_numbers_of_queries(name, diagnosis) -> None:
    panels = PICTURES[name].draw({"before": diagnosis(), "after": diagnosis(3)})
    assert list(panels) == [("before", "home"), ("before", "away"), ("after", "home"), ("after", "away")]
    assert {panel.width for panel in panels.values()} == {WIDTH * DENSITY}
    assert len({panel.height for panel in panels.values()}) == 1
    whole = overview(panels)
    assert whole.size == (2 * WIDTH * DENSITY, 2 * panels["before", "home"].height)
    corner = np.asarray(whole)[: panels["before", "home"].height, WIDTH * DENSITY :]
    assert np.array_equal(corner, np.asarray(panels["after", "home"])), "runs stand beside each other"
    assert not np.array_equal(np.asarray(panels["before", "home"]), np.asarray(panels["after", "home"]))


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_diagnosis_gives_the_same_picture(name, diagnosis) -> None:
    one, two = (PICTURES[name].draw({"run": diagnosis()})["run", "home"] for _ in range(2))
    assert np.array_equal(np.asarray(one), np.asarray(two))


def test_data_sets_of_one_run_stand_beside_each_other(diagnosis) -> None:
    panels = PICTURES["activity"].draw({"": diagnosis()})
    assert overview(panels).size == (2 * WIDTH * DENSITY, panels["", "home"].height)


def test_without_prototypes_only_the_others_are_drawn(circle) -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    bare = Diagnosis.of({"home": circle(measured=nothing, present=nothing)}, CLASSES)
    drawn = {name for name, picture in PICTURES.items() if picture.draw({"run": bare})}
    assert drawn == {"activity", "occupancy"}


def test_nothing_active_can_be_drawn(circle) -> None:
    silent = Diagnosis.of({"home": circle(classes=torch.full((2, 4), -1))}, CLASSES)
    for picture in PICTURES.values():
        assert picture.draw({"run": silent})


def test_occupancy_bars_are_as_long_as_their_values(diagnosis) -> None:
    pixels = np.asarray(PICTURES["occupancy"].draw({"run": diagnosis()})["run", "home"]).astype(int)
    bars = {}
    for name, color in {"head": (42, 157, 143), "prototype": (226, 132, 50)}.items():
        lengths = (np.abs(pixels - color).sum(2) < 6)[: -60 * DENSITY].sum(1)  # without the legend
        bars[name] = [int(rows.max()) for rows in np.split(lengths[58 * DENSITY :][: 3 * 22 * DENSITY], 3)]
    unit = bars["prototype"][1] / 2.5
    assert [round(length / unit, 1) for length in bars["head"]] == [1.5, 0.5, 0.5]
    assert [round(length / unit, 1) for length in bars["prototype"]] == [1.5, 2.5, 0]


def test_colours_run_from_blue_over_white_to_red() -> None:
    colors = diverging(torch.tensor([[-1.0, 0.0, 1.0, float("nan")]]))[0].tolist()
    assert colors == [[33, 102, 172], [255, 255, 255], [178, 24, 43], [228, 230, 232]]


def test_names_hide_neither_stars_nor_each_other() -> None:
    area, stars = (0.0, 0.0, 400.0, 300.0), [(200.0 + 3 * i, 150.0) for i in range(8)]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in stars]
    for star in stars:
        box = free_box(star, (60, 15), 0.0, area, taken)
        assert all(box[2] <= t[0] or t[2] <= box[0] or box[3] <= t[1] or t[3] <= box[1] for t in taken)
        assert area[0] <= box[0] < box[2] <= area[2]
        assert area[1] <= box[1] < box[3] <= area[3]
        taken.append(box)


def test_a_full_area_still_gives_a_place() -> None:
    area = (0.0, 0.0, 100.0, 100.0)
    left, top, right, bottom = free_box((50.0, 50.0), (40, 15), 0.0, area, [area])
    assert (right - left, bottom - top) == pytest.approx((40, 15))
