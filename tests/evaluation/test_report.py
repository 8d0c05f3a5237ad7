import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from queryseg.errors import InputError
from queryseg.evaluation.domain_table import DomainTable, RunFacts
from queryseg.evaluation.evaluation import Example
from queryseg.evaluation.report import error_picture, write_html

CONFUSION = [[[8, 1, 0], [1, 8, 0], [0, 0, 0]]] * 3


@pytest.fixture
def example():
    label_map = np.zeros((30, 900), np.uint8)
    label_map[:, 300:] = 1
    label_map[:, 600:] = 255
    prediction = np.ones_like(label_map)
    return Example("night/<1>", np.full((30, 900, 3), 90, np.uint8), label_map, prediction)


@pytest.fixture
def table(make_evaluation, example):
    evaluations = [make_evaluation("clear", CONFUSION, (example,)), make_evaluation("fog", CONFUSION[:1])]
    facts = RunFacts("runs/a&b", 2_000_000, {"seed": 0, "training": {"steps": 600}, "classes": ["<b>"]})
    return DomainTable(evaluations, frozenset({"clear"}), facts, {"fog": "fog.yaml"})


@pytest.fixture
def page(table, tmp_path):
    path = tmp_path / "new" / "report.html"
    write_html(table, path, "Streets & <more>")
    return path.read_text(encoding="utf-8")


def pictures(page):
    found = re.findall(r'alt="(\w+)" width="\d+" height="\d+" src="data:image/\w+;base64,([^"]+)"', page)
    return {alt: Image.open(io.BytesIO(base64.b64decode(data))) for alt, data in found}


def test_the_file_needs_nothing_else(page):
    assert not re.search(r"<script|<link|https?://|url\(|@import", page)
    assert page.startswith("<!DOCTYPE html>")


def test_numbers_stand_beside_their_protocol(page):
    assert "80.0" in page
    assert "native size, whole image" in page
    assert "last step, never chosen on a target" in page
    for words in ("2.00 million", "600", "fog.yaml", "torch 2", "–: the class is neither labelled nor predicted"):
        assert words in page


def test_names_cannot_break_the_page(page):
    assert "Streets &amp; &lt;more&gt;" in page
    assert "sky &lt;far&gt;" in page
    assert "night/&lt;1&gt;" in page
    assert "runs/a&amp;b" in page
    for raw in ("<more>", "<far>", "night/<1>", "<b>\n"):
        assert raw not in page


def test_examples_are_small_exact_pictures(page, table):
    shown = pictures(page)
    assert list(shown) == ["image", "label", "prediction", "errors"]
    assert {picture.size for picture in shown.values()} == {(420, 14)}
    colors = table.evaluations[0].classes.colors
    label = shown["label"].convert("RGB")
    assert [label.getpixel((x, 7)) for x in (50, 200, 400)] == [colors[0], colors[1], (0, 0, 0)]
    assert shown["prediction"].convert("RGB").getpixel((50, 7)) == colors[1]
    assert "50.0 % of labelled pixels right" in page


def test_errors_are_red_and_ignored_pixels_black(example):
    picture = error_picture(example.image, example.label_map, example.prediction)
    red, grey, black = picture[0, 100], picture[0, 400], picture[0, 700]
    assert red[0] > 2 * red[1]
    assert grey[0] == grey[1] == grey[2] > 100
    assert black.tolist() == [0, 0, 0]


def test_curves_of_a_run(table, tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,learning_rate,loss,miou/clear,miou/fog\n10,1,5.0,,\n20,1,4.0,0.2,0.1\n30,1,3.0,0.4,0.2\n")
    write_html(table, tmp_path / "report.html", "Run", metrics)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("<polyline") == 3


def test_a_page_without_examples_or_curves_leaves_them_out(make_evaluation, tmp_path):
    table = DomainTable([make_evaluation("fog", CONFUSION)], frozenset(), RunFacts("", 5))
    write_html(table, tmp_path / "report.html", "Fog")
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Examples" not in page
    assert "<h2>Training" not in page
    assert "<h2>Domains" in page
    assert "nan" not in page.replace("Dominant", "")


def test_scores_that_are_not_defined_are_dashes(make_evaluation, tmp_path):
    table = DomainTable([make_evaluation("void", [[[0] * 3] * 3] * 2)], frozenset(), RunFacts("", 5))
    write_html(table, tmp_path / "report.html", "Void")
    assert "nan" not in (tmp_path / "report.html").read_text()


def test_a_report_that_cannot_be_written(table, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_html(table, tmp_path / "file" / "report.html", "Run")
