import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from queryseg.errors import InputError
from queryseg.evaluation.curve import read_curves, svg_chart


def test_empty_cells_are_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,miou/fog\n10,5.5,\n20,4.5,0.25\n")
    assert read_curves(path) == {"loss": [(10, 5.5), (20, 4.5)], "miou/fog": [(20, 0.25)]}


@pytest.mark.parametrize("content", ["loss\n5\n", "step,loss\n1,high\n", "step,loss\nfirst,1\n"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"is no metrics\.csv"):
        read_curves(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        read_curves(tmp_path / "none.csv")


def test_a_run_without_rows_has_no_curves(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n")
    assert read_curves(tmp_path / "metrics.csv") == {}


@example([(0, 5e-324)])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e6)), min_size=1, max_size=5))
def test_every_point_lies_inside_the_chart(points):
    chart = ElementTree.fromstring(svg_chart("a < b", {"loss": points, "other": [(0, 0)]}))
    width, height = (float(number) for number in chart.attrib["viewBox"].split()[2:])
    for line in chart.iter("polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert 2 <= len(list(chart.iter("line"))) <= 7
