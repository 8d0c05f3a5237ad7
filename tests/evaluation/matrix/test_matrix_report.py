"""What readers see of a matrix, in all formats."""

import re
from dataclasses import replace

import numpy as np
import pytest

from queryseg.errors import InputError
from queryseg.evaluation.evaluation import Example
from queryseg.evaluation.markdown_report import matrix_markdown
from queryseg.evaluation.matrix.confusion_table import confusion_table, most_confused
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.matrix.latex_report import escaped, latex, write_latex
from queryseg.evaluation.matrix.matrix_grids import all_grids, corruption_means, sources_by_targets
from queryseg.evaluation.matrix.matrix_report import write_matrix_html
from queryseg.evaluation.matrix.reliability_plot import reliability_plots
from queryseg.evaluation.matrix.speed_accuracy import speed_accuracy_plot
from queryseg.evaluation.matrix.worst_images import WorstImage
from queryseg.metrics.calibration import Calibration
from queryseg.metrics.metric import PredictedMaps
from queryseg.types import Sample


def test_the_first_table_marks_training_domains_and_leaves_them_out_of_the_mean(matrix):
    grid = sources_by_targets(matrix)
    assert grid.columns == ["a", "b_1", "c", "mean unseen", "retained"]
    one, two = grid.rows
    assert [cell.text for cell in one.cells] == ["81.8", "42.9", "53.8", "48.4", "59.1"]
    assert [cell.seen for cell in two.cells] == [False, True, False, False, False]
    best = [cell.best for cell in two.cells]
    assert best == [False, False, True, True, False], "seen is not compared with unseen"


def test_corruptions_stand_beside_their_groups(matrix):
    (grid,) = corruption_means(matrix)
    assert grid.columns == ["clean", "fog", "snow", "contrast", "all weather", "mPC", "rPC"]
    assert "3 corruptions, severities 1, 3, 5" in grid.note
    assert [cell.text for cell in grid.rows[1].cells] == ["33.3"] * 6 + ["100.0"]


def test_html_is_one_file_that_names_cannot_break(matrix, tmp_path):
    picture = np.zeros((20, 40, 3), np.uint8)
    labels = np.zeros((20, 40), np.uint8)
    example = Example("fog/<1>", picture, labels, labels)
    worst = [WorstImage("a", "fog/<1>", dict.fromkeys(matrix.runs, 0.25), dict.fromkeys(matrix.runs, example))]
    path = tmp_path / "new" / "matrix.html"
    write_matrix_html(matrix, path, "Runs", worst)
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|https?://|url\(|@import", page)
    assert "<&>" not in page
    assert "fog/<1>" not in page
    for words in ("Sources × targets", "one &lt;&amp;&gt;: 25.0 %", "Worst images", "Conditions of c", "whole images"):
        assert words in page
    assert page.count('class="matrix confusion"') == 6
    assert page.count('<img alt="') == 4
    assert "nan" not in page
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_matrix_html(matrix, tmp_path / "file" / "a.html", "Runs")


def test_speed_and_accuracy_are_where_the_axes_say(matrix):
    plot = speed_accuracy_plot(matrix)
    assert plot.count('class="published"') == 7
    places = dict(re.findall(r'<circle cx="([\d.]+)" cy="[\d.]+" r="6" class="(fill-\d)"', plot))
    assert len(places) == 2
    one, two = map(float, places)
    thousand = float(re.search(r'<circle cx="([\d.]+)" cy="[\d.]+" r="5" class="published"><title>FastSAM', plot)[1])
    assert (two - one) / (thousand - one) == pytest.approx(np.log(21 / 10) / np.log(1000 / 10), abs=0.002)
    assert speed_accuracy_plot(replace(matrix, latencies={})) == ""


def test_names_in_the_plot_hide_each_other_nowhere(matrix):
    plot = speed_accuracy_plot(matrix)
    pattern = r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle"(?: class="[^"]*")?>([^<]+)</text>'
    names = [found for found in re.findall(pattern, plot) if not found[2].isdigit()]
    boxes = [(float(x), float(y), 3.2 * len(name)) for x, y, name in names if "milliseconds" not in name]
    assert len(boxes) == 9
    for i, (x, y, half) in enumerate(boxes):
        assert all(abs(x - a) > half + b - 8 or abs(y - c) > 10 for a, c, b in boxes[i + 1 :])


def test_confusion_is_normalised_by_row_and_zeros_are_empty(matrix):
    evaluation = matrix.evaluation("one <&>", "b_1")
    table = confusion_table(evaluation)
    assert re.findall(r"<td[^>]*>(\d*)</td>", table) == ["60", "40", "", "40", "60", "", "", "", ""]
    assert table.count('class="wrong"') == 2
    assert most_confused(evaluation) == "40 % of road taken for car; 40 % of car taken for road"


def test_reliability(make_table):
    """Half of the pixels are right at a confidence of 0.9: one point, 40 points of calibration error."""
    import torch

    metric = Calibration(3)
    probabilities = torch.tensor([0.9, 0.1, 0.0])[:, None, None].expand(3, 4, 4)
    labels = torch.tensor([0, 1], dtype=torch.uint8).repeat(4, 2)
    metric.update(PredictedMaps(labels, probabilities=probabilities), Sample(torch.zeros(3, 4, 4).byte(), labels, "x"))
    table = make_table({"a": 50}, "a")
    assert reliability_plots(DomainMatrix({"x": table})) == []
    measured = replace(table.evaluations[0], measures={"calibration": metric.compute()})
    matrix = DomainMatrix({"x": replace(table, evaluations=[measured])})
    (plot,) = reliability_plots(matrix)
    assert "calibration error 40.0 %" in plot
    assert "50.0 % of 16 pixels right at 90.0 %" in plot
    assert any(grid.title == "Measure calibration" for grid in all_grids(matrix))


def test_markdown_and_latex_hold_every_table(matrix, tmp_path):
    text = matrix_markdown(matrix)
    assert "| two | 33.3" in text
    assert "<u>81.8</u> [" in text
    assert text.count("> **Warning:** one <&>, two: Be careful") == 1
    page = latex(matrix)
    assert page.count(r"\begin{tabular}") == page.count(r"\bottomrule") == text.count("### ") == 7
    assert r"one \textless{}\&\textgreater{}" in page
    assert r"b\_1" in page
    assert page.count("{") == page.count("}")
    for line in page.splitlines():
        if line.endswith(r"\\"):
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            assert cells in (1 + 5, 1 + 4, 2 + 7, 2 + 3, 1 + 2)
    write_latex(matrix, tmp_path / "new" / "matrix.tex")
    with pytest.raises(InputError, match="could not be written"):
        write_latex(matrix, tmp_path)


def test_latex_escapes():
    assert escaped(r"50 % of a_b & \c {d} × – #1") == r"50 \% of a\_b \& \textbackslash{}c \{d\} $\times$ -- \#1"
