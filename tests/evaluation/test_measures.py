"""Measures beside mIoU: what they ask of a model, and that they change nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from queryseg.data.class_table import ClassTable
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError, RecipeError
from queryseg.evaluation.domain_table import evaluate_many
from queryseg.evaluation.evaluator import evaluate
from queryseg.evaluation.measures import components
from queryseg.inference.engine import Engine
from queryseg.inference.windows import protocol_scores
from queryseg.metrics import BoundaryIoU, Calibration, PredictedMaps, Trimap
from queryseg.types import Sample

ALL = ("boundary", "panoptic", "calibration")


class Objects(SegmentationDataset):
    """The same pictures with two things, whose pixels are crowds in the first image and objects by halves in others."""

    def __init__(self, inner: SegmentationDataset) -> None:
        table = inner.classes
        self.inner, self.name = inner, inner.name
        self.classes = ClassTable(table.name, table.names, table.colors, frozenset({1, 3}))

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        sample = self.inner[index]
        thing = (sample.label_map == 1) | (sample.label_map == 3)
        half = 1 + (torch.arange(sample.label_map.shape[1]) >= sample.label_map.shape[1] // 2).int()
        return replace(sample, instance_map=(thing * half * (index > 0)).int())


def test_measures_are_computed_on_what_the_model_says(model, pictures):
    """Boundaries from its labels; calibration from its scores over max(1, their sum) in pixels 2, 6, 10 … of rows 2, 6,
    10 …, here in numpy."""
    dataset = pictures()
    found = evaluate(model, dataset, Protocol(), measures=["boundary", "calibration"])
    assert list(found.measurements) == ["pixels", "trimap", "boundary_iou", "calibration"]
    trimap, brier, number = Trimap(4), 0.0, 0
    for index in range(len(dataset)):
        sample = dataset[index]
        with torch.no_grad():
            scores = protocol_scores(Engine(model), sample.image, Protocol())
        trimap.update(PredictedMaps(scores.argmax(0).byte()), sample)
        p = scores[:, 2::4, 2::4].flatten(1).numpy().astype(np.float64).T
        p /= np.maximum(1, p.sum(1, keepdims=True))
        labels = sample.label_map[2::4, 2::4].flatten().numpy()
        p, labels = p[labels != 255], labels[labels != 255]
        brier += ((p - np.eye(4)[labels]) ** 2).sum() + ((1 - p.sum(1)) ** 2).sum()
        number += len(labels)
    assert torch.equal(found.measures["trimap"].statistics, trimap.compute().statistics)
    assert found.measures["calibration"].scores()["brier_score"] == pytest.approx(brier / number, rel=1e-5)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(short_side=16), Protocol(window=24, stride=16)], ids=str)
def test_the_labels_are_the_same_with_and_without_measures(model, pictures, protocol):
    dataset = Objects(pictures())
    plain, measured = (evaluate(model, dataset, protocol, measures=measures) for measures in ((), ALL))
    assert torch.equal(plain.confusion, measured.confusion)
    assert torch.equal(plain.margins, measured.margins)
    assert plain.measures == {}
    assert list(measured.measures) == ["trimap", "boundary_iou", "panoptic", "calibration"]
    assert {m.num_images for m in measured.measures.values()} == {5}


def test_observers_see_every_image_once_beside_measures(model, pictures):
    seen = []
    evaluate(model, Objects(pictures(3)), Protocol(), measures=ALL, observer=lambda o: seen.append(len(o.label_maps)))
    assert seen == [1, 1, 1]


def test_segments_may_come_from_the_model(model, pictures):
    """Whoever finds exactly the labelled segments has PQ 1; what a segment is stands beside the score."""
    dataset = Objects(pictures(3))
    asked = []

    def find_segments(engine, image, protocol, classes, size):
        sample = dataset[len(asked)]
        asked.append(
            (torch.equal(image, sample.image), protocol, classes.things, size == tuple(sample.label_map.shape))
        )
        return sample.label_map, sample.instance_map

    found = evaluate(model, dataset, Protocol(), measures=["panoptic"], find_segments=find_segments)
    assert asked == [(True, Protocol(), frozenset({1, 3}), True)] * 3
    assert found.measures["panoptic"].scores()["pq"] == 1
    assert found.measures["panoptic"].metric.settings["segments"] == "the model's own"
    guessed = evaluate(model, dataset, Protocol(), measures=["panoptic"])
    assert guessed.measures["panoptic"].scores()["pq"] < 0.5
    assert guessed.measures["panoptic"].metric.settings["segments"] == "connected components of the labels"


def test_connected_things_are_one_object():
    """Corners touch; numbers go on from class to class; stuff has none."""
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [3, 3, 0, 0], [0, 0, 0, 1]], dtype=torch.uint8)
    found = components(labels, {1, 3})
    assert torch.equal(found.label_map, labels)
    assert found.instance_map.tolist() == [[1, 0, 2, 0], [0, 0, 0, 2], [4, 4, 0, 0], [0, 0, 0, 3]]
    assert found.instance_map.dtype == torch.int32
    assert not components(labels, ()).instance_map.any()


def test_metrics_with_settings_of_ones_own_start_afresh_on_every_data_set(model, pictures):
    mine = BoundaryIoU(4, (5,), dilation_ratio=None, void="neutral")
    datasets = {"day": pictures(2), "dusk": pictures(3)}
    table = evaluate_many(model, datasets, Protocol(), measures=[mine, Calibration(4, classwise=True)])
    assert [e.measures["boundary_iou"].num_images for e in table.evaluations] == [2, 3]
    assert list(table.evaluations[0].measures["boundary_iou"].scores()) == ["mean_iou_5px"]
    assert "classwise_calibration_error" in table.evaluations[1].measures["calibration"].scores()
    with pytest.raises(InputError, match="has seen no image"):
        mine.compute()


def test_tables_and_json_tell_scores_with_intervals_and_rules(model, pictures):
    table = evaluate_many(model, {"day": Objects(pictures(3)), "dusk": Objects(pictures(4))}, Protocol(), measures=ALL)
    content = json.loads(json.dumps(table.to_json(), allow_nan=False))["data"]["dusk"]
    assert list(content["measures"]) == ["pixels", "trimap", "boundary_iou", "panoptic", "calibration"]
    scores = content["measures"]["panoptic"]["scores"]
    assert {"pq", "sq", "rq", "pq_things", "rq_stuff"} <= scores.keys()
    low, high = scores["pq"]["interval"]
    assert low <= scores["pq"]["value"] <= high
    assert content["measures"]["pixels"]["scores"]["mean_iou"]["value"] == content["mean_iou"]
    assert len(content["measures"]["calibration"]["details"]["bins"]["accuracy"]) == 15
    day, dusk = table.evaluations
    assert content["mean_iou_retention"]["value"] == dusk.mean_iou / day.mean_iou
    assert table.to_json()["data"]["day"]["mean_iou_retention"] is None

    console = Console(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    shown = console.export_text()
    brier = dusk.measures["calibration"].scores()["brier_score"]
    for words in ("boundary IoU", "mean IoU 3px", "mean IoU 2%", "PQ things", "connected components", f"{brier:.3f} ["):
        assert words in shown, words


def test_what_cannot_be_measured_is_refused_before_anything_is(model, pictures):
    class Looked(Objects):
        looked = 0

        def __getitem__(self, index):
            Looked.looked += 1
            return super().__getitem__(index)

    class Whole(Objects):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), instance_map=None)

    datasets = {"day": Looked(pictures()), "dusk": Whole(pictures())}
    with pytest.raises(InputError, match="'dusk' tells no objects apart"):
        evaluate_many(model, datasets, Protocol(), measures=["panoptic"])
    assert Looked.looked == 1
    with pytest.raises(InputError, match="no measure 'border'; choose from boundary, panoptic, calibration"):
        evaluate_many(model, datasets, Protocol(), measures=["border"])


def test_models_that_tell_no_probabilities_are_refused(model, pictures, monkeypatch):
    engine = Engine(model).eval()

    class Exported:
        device, class_names = engine.device, engine.class_names

        def __call__(self, images, size=None):
            return engine(images, size)

    assert evaluate(Exported(), pictures(2), Protocol(), measures=["boundary"]).measures["trimap"].num_images == 2
    with pytest.raises(InputError, match="exported file does not tell how likely"):
        evaluate(Exported(), pictures(2), Protocol(), measures=["calibration"])
    from queryseg.contracts import Readout

    monkeypatch.setattr(type(model.readout), "probabilities", Readout.probabilities)
    with pytest.raises(RecipeError, match="Mixture says which class is likelier, but not how likely"):
        evaluate(model, pictures(2), Protocol(), measures=["calibration"])
