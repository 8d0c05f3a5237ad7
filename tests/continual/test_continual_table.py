"""Groups, mean over steps, forgetting: by hand."""

from __future__ import annotations

from math import isnan, nan

import pytest

from queryseg.continual.continual_report import continual_markdown, steps_plot
from queryseg.continual.continual_table import ContinualTable
from queryseg.continual.step_scores import StepScores
from queryseg.data.class_split import split_by_size
from queryseg.data.class_table import class_table

CLASSES = class_table(["sky", "road", "car", "sign"])
SCORES = {1: [0.8, 0.6, nan, nan], 2: [0.6, 0.6, 0.2, nan], 3: [0.4, 0.2, 0.4, 0.5]}


@pytest.fixture
def table() -> ContinualTable:
    steps = [StepScores(step, {"val": {"miou": values}}, {"val": 3}) for step, values in SCORES.items()]
    return ContinualTable(CLASSES, split_by_size(CLASSES, [2, 1, 1]), steps)


def test_groups_of_a_step(table):
    last = table.group_scores(table.steps[2], "val", "miou")
    assert last == pytest.approx({"base": 0.3, "old": 1 / 3, "current": 0.5, "new": 0.45, "all": 0.375})
    first = table.group_scores(table.steps[0], "val", "miou")
    assert first["base"] == first["current"] == first["all"] == pytest.approx(0.7)
    assert isnan(first["old"])
    assert isnan(first["new"])


def test_the_average_is_over_steps_of_all_classes_seen_by_then(table):
    assert table.average("val", "miou") == pytest.approx((0.7 + 1.4 / 3 + 0.375) / 3)


def test_forgetting_is_the_best_score_before_minus_the_last(table):
    matrix = table.forgetting_matrix("val", "miou")
    assert matrix[0] == pytest.approx([0.7, 0.6, 0.3])
    assert matrix[1][1:] == pytest.approx([0.2, 0.4])
    assert isnan(matrix[1][0])
    lost = table.forgetting("val", "miou")
    assert lost[:2] == pytest.approx([0.4, -0.2])
    assert isnan(lost[2])


def test_what_is_written_and_drawn_are_these_numbers(table):
    text = continual_markdown(table)
    assert "| 3 | sign | 30.0 | 33.3 | 50.0 | 45.0 | 37.5 |" in text
    assert "| 1 | sky, road | 70.0 | 60.0 | 30.0 | +40.0 |" in text
    plot = steps_plot(table, "val", "miou")
    assert plot.count("<circle") == 3 + 2 + 2 + 3  # base, old, new, all
    assert "all after step 3: 37.5" in plot


def test_joint_training_stands_at_the_last_step():
    scores = StepScores(1, {"val": {"miou": SCORES[3]}}, {"val": 3})
    joint = ContinualTable(CLASSES, split_by_size(CLASSES, [2, 1, 1]), [scores], joint=True)
    assert joint.group_scores(scores, "val", "miou")["new"] == pytest.approx(0.45)
    assert joint.forgetting_matrix("val", "miou") == [[pytest.approx(0.3)], [0.4], [0.5]]
