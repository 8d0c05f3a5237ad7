"""Numbers that are made of several evaluations; IoU of a data set is share / (200 − share), see conftest."""

import json
from dataclasses import replace
from math import isnan

import pytest

from queryseg.evaluation.matrix.domain_matrix import DomainMatrix, image_order, pareto_front


def iou(share):
    return share / (200 - share)


def test_every_run_has_its_own_training_domain_and_unseen_targets(matrix):
    assert matrix.targets == ["a", "b_1", "c"]
    assert matrix.unseen("one <&>") == ["b_1", "c"]
    assert matrix.unseen("two") == ["a", "c"]
    found = matrix.mean_unseen("one <&>")
    assert found.value == pytest.approx((iou(60) + iou(70)) / 2)
    assert 0 < found.interval[0] < found.value < found.interval[1] < 1
    assert matrix.retention("one <&>").value == pytest.approx(found.value / iou(90))
    assert matrix.retention("two").value == pytest.approx((iou(50) + iou(80)) / 2 / iou(92))
    assert matrix.shift == "every run's own unseen targets"


def test_a_source_without_targets_is_judged_under_corruption(make_table):
    matrix = DomainMatrix({"x": make_table({"a": 90}, "a")})
    assert isnan(matrix.mean_unseen("x").value)
    assert isnan(matrix.retention("x").value)
    assert isnan(matrix.shifted("x").value)


def test_mean_performance_under_corruption(matrix):
    """Severities first, then corruptions: fog's two severities weigh as much as snow's one."""
    found = matrix.corruptions["a"]["one <&>"]
    fog = (iou(80) + iou(40)) / 2
    assert found.mean("fog").value == pytest.approx(fog)
    assert found.groups == {"weather": ["fog", "snow"], "digital": ["contrast"]}
    assert found.group_mean("weather").value == pytest.approx((fog + iou(50)) / 2)
    performance = (fog + iou(50) + iou(30)) / 3
    assert found.performance.value == pytest.approx(performance)
    assert found.relative_performance.value == pytest.approx(performance / iou(90))
    low, high = found.relative_performance.interval
    assert low < performance / iou(90) < high


def test_a_ratio_of_the_same_images_has_no_spread_where_nothing_changed(matrix):
    """Run two is as good under corruption as without: images are drawn together, so that rPC is 1 in every resample."""
    found = matrix.corruptions["a"]["two"]
    assert found.relative_performance.value == pytest.approx(1)
    assert found.relative_performance.interval == pytest.approx((1, 1))
    low, high = found.performance.interval
    assert high - low > 0.01


def test_conditions_are_scored_apart(matrix):
    assert matrix.conditions("a") == []
    assert matrix.conditions("c") == ["fog", "night"]
    found = matrix.evaluation("one <&>", "c").conditions
    assert [one.num_images for one in found.values()] == [2, 1]
    assert found["night"].scores()["mean_iou"] == pytest.approx(iou(74))
    assert list(matrix.tables["one <&>"].to_json()["data"]["c"]["conditions"]) == ["fog", "night"]


def test_pareto_front():
    points = {
        "slow": (9.0, 0.9),
        "fast": (1.0, 0.2),
        "beaten": (5.0, 0.2),
        "twin": (1.0, 0.2),
        "no": (0.1, float("nan")),
    }
    assert pareto_front(points) == ["fast", "twin", "slow"]
    assert pareto_front({}) == []


def test_the_worst_image_comes_first_and_images_without_labels_never(matrix):
    assert image_order(matrix, "a") == [0, 1, 2]
    evaluation = matrix.evaluation("two", "a")
    margins = evaluation.margins.clone()
    margins[0] = 0
    assert isnan(float(replace(evaluation, margins=margins).image_iou[0]))
    assert float(evaluation.image_iou[1]) == pytest.approx(iou(50))


def test_json_is_plain(matrix):
    content = json.loads(json.dumps(matrix.to_json(), allow_nan=False))
    assert content["runs"]["two"]["training_domain"] == ["b_1"]
    assert content["pareto_front"] == ["one <&>", "two"]
    assert content["runs"]["one <&>"]["latency"]["milliseconds_per_image"] == 10
    assert content["runs"]["two"]["corruptions"]["a"]["corruptions"]["fog"]["severities"] == {
        "1": pytest.approx(iou(50)),
        "5": pytest.approx(iou(50)),
    }
    assert {point["name"] for point in content["published"]} >= {"PIDNet", "FastSAM"}
