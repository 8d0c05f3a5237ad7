"""Which classes count after a step, and what pixels of classes that are still to come do."""

from __future__ import annotations

from math import isnan

import pytest
import torch

from queryseg.continual.step_scores import StepScores, class_scores
from queryseg.data.class_table import class_table
from queryseg.data.protocol import Protocol
from queryseg.errors import CheckpointError
from queryseg.evaluation.evaluation import Evaluation
from queryseg.metrics.metric import PanopticMap, PredictedMaps
from queryseg.metrics.panoptic_quality import PanopticQuality
from queryseg.metrics.pixel_scores import PixelScores
from queryseg.types import Sample

CLASSES = class_table(["sky", "road", "car", "sign"])


def evaluated(label: list[int], prediction: list[int]) -> Evaluation:
    """One image of one row."""
    label_map, found = (torch.tensor([values], dtype=torch.uint8) for values in (label, prediction))
    sample = Sample(torch.zeros(3, 1, len(label), dtype=torch.uint8), label_map, "a")
    pixels, quality = PixelScores(4), PanopticQuality(4, ())
    maps = PredictedMaps(found, PanopticMap(found, torch.zeros_like(found, dtype=torch.int32)))
    for metric in (pixels, quality):
        metric.update(maps, sample)
    scores = pixels.compute()
    return Evaluation(
        "a", CLASSES, Protocol(), scores.total, scores.statistics.long(), 0.0, measures={"panoptic": quality.compute()}
    )


def test_later_classes_count_nowhere_in_iou_and_as_wrong_segments_in_pq():
    """Sky is predicted on sky and, as far again, where car will be labelled: IoU 1, and two halves of a segment."""
    found = class_scores(evaluated([0, 0, 0, 2, 2, 2, 1], [0, 0, 0, 0, 0, 0, 1]), [0, 1])
    assert found["miou"][:2] == [1.0, 1.0]
    assert found["pq"][:2] == [0.0, 1.0]  # IoU of segments is 3/6, which is no match
    assert all(isnan(value) for scores in found.values() for value in scores[2:])
    void = class_scores(evaluated([0, 0, 0, 255, 255, 255, 1], [0, 0, 0, 0, 0, 0, 1]), [0, 1])
    assert void["pq"][:2] == [1.0, 1.0]


def test_classes_without_labels_have_no_iou_and_nothing_is_a_miss():
    """Road is predicted and never labelled: no IoU, but a PQ of 0. A pixel of sky that is nothing is missed."""
    found = class_scores(evaluated([0, 0, 0, 0], [0, 0, 255, 1]), [0, 1])
    assert found["miou"][0] == 0.5
    assert isnan(found["miou"][1])
    assert found["pq"][1] == 0.0


def test_scores_come_back_from_their_file(tmp_path):
    scores = StepScores(2, {"val": {"miou": [0.25, float("nan")]}}, {"val": 7}, {"images": 3}, None)
    assert StepScores.read(tmp_path) is None
    scores.write(tmp_path)
    found = StepScores.read(tmp_path)
    assert (found.step, found.num_images, found.memory) == (2, {"val": 7}, {"images": 3})
    assert found.scores["val"]["miou"][0] == 0.25
    assert isnan(found.scores["val"]["miou"][1])
    assert found.mean("val", "miou", [0, 1]) == 0.25
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"scores\.json is damaged; delete it"):
        StepScores.read(tmp_path)
