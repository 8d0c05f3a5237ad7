"""Segments from a model to a user: result, files, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.data.coco_panoptic import read_segment_ids
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.panoptic import panoptic_maps, protocol_segments
from queryseg.inference.predictor import Predictor, recorded_task
from queryseg.readouts import Mixture, PerPixel

THINGS = [1, 3]


@pytest.fixture
def classes(model):
    names = list(model.dims.class_names)
    return class_table({"names": names, "things": [names[label] for label in THINGS]})


@pytest.fixture
def predictor(model, classes):
    model.readout = Mixture(object_threshold=0.2, overlap_threshold=0.3, instance_threshold=0.2)
    return Predictor(model, classes, device="cpu", task="panoptic")


@pytest.fixture
def picture(image):
    return image.permute(1, 2, 0).numpy()


def test_a_panoptic_segmentation(predictor, picture, classes, tmp_path):
    """Ids, areas, boxes and masks agree with the map; stuff occurs once per class; files keep the ids."""
    result = predictor.predict(picture)
    assert len(result.segments) >= 2, "the model must say something for this test to mean anything"
    assert any(segment.is_thing for segment in result.segments)
    assert result.segment_map.shape == result.labels.shape == (40, 72)
    assert result.segment_map.dtype == np.int32
    assert [segment.id for segment in result.segments] == list(range(1, len(result.segments) + 1))
    for segment in result.segments:
        mask = result.segment_map == segment.id
        x, y, width, height = segment.bbox
        assert np.array_equal(segment.mask((40, 72)), mask)
        assert segment.area == mask.sum() == segment.inside.sum()
        assert segment.inside.shape == (height, width)
        assert mask[y : y + height, x : x + width].sum() == segment.area
        assert (result.labels[mask] == segment.label).all()
        assert segment.class_name == classes.names[segment.label]
        assert segment.is_thing == (segment.label in THINGS)
        assert 0.2 < segment.score <= 1
    assert (result.labels[result.segment_map == 0] == 255).all()
    stuff = [segment.label for segment in result.segments if not segment.is_thing]
    assert len(stuff) == len(set(stuff))
    assert sum(result.share().values()) == pytest.approx((result.segment_map > 0).mean())
    result.save(tmp_path / "segments.png", "segments")
    assert np.array_equal(read_segment_ids(tmp_path / "segments.png").numpy(), result.segment_map)
    result.save(tmp_path / "overlay.png", "overlay")
    assert np.array_equal(np.asarray(result.overlay(0)), picture)


def test_instances_are_things(predictor, picture):
    result = predictor.predict(picture, task="instance")
    assert result.segments
    assert all(segment.is_thing for segment in result.segments)
    scores = [segment.score for segment in result.segments]
    assert scores == sorted(scores, reverse=True)
    assert set(np.unique(result.labels)) <= {*THINGS, 255}


def test_semantic_on_request_and_by_default(predictor, model, classes, picture):
    semantic = Predictor(model, classes, device="cpu")
    assert semantic.predict(picture).segment_map is None
    assert semantic.predict(picture).segments == ()
    assert np.array_equal(predictor.predict(picture, task="semantic").labels, semantic.predict(picture).labels)
    with pytest.raises(InputError, match="no segments"):
        semantic.predict(picture).save("x.png", "segments")


def test_maps_for_panoptic_quality(predictor, image, classes):
    """At the label's size; objects have numbers, stuff and nothing have 0, nothing is 255."""
    for protocol, size in ((Protocol(), None), (Protocol(short_side=24), (80, 144))):
        with torch.no_grad():
            labels, instances = panoptic_maps(predictor.engine, image, protocol, classes, size)
        assert labels.shape == instances.shape == (size or (40, 72))
        assert (labels.dtype, instances.dtype) == (torch.uint8, torch.int32)
        is_thing = torch.isin(labels, torch.tensor(THINGS, dtype=torch.uint8))
        assert torch.equal(instances > 0, is_thing)
        assert is_thing.any()


def test_a_compiled_model_finds_the_same_segments(predictor, model, classes, picture):
    """The graph is captured whole; its readout runs as it is."""
    from queryseg.inference.engine import CompiledEngine

    compiled = Predictor(CompiledEngine(predictor.engine, backend="eager"), classes)
    found = compiled.predict(picture, task="panoptic")
    assert np.array_equal(found.segment_map, predictor.predict(picture).segment_map)


def test_what_cannot_find_segments_is_refused(model, classes, picture, image):
    """Windows, tables without things, readouts of pixels, scores, other engines, misspelt tasks, pruning."""
    predictor = Predictor(model, classes, Protocol(window=32, stride=16), device="cpu", task="panoptic")
    with pytest.raises(InputError, match=r"windows 32/16.*whole images"):
        predictor.predict(picture)
    assert predictor.predict(picture, task="semantic").labels.shape == (40, 72)
    plain = class_table(list(classes.names))
    with pytest.raises(InputError, match="No class of 'custom' is a thing"):
        Predictor(model, plain, device="cpu").predict(picture, task="panoptic")
    whole = Predictor(model, classes, device="cpu", task="panoptic")
    with pytest.raises(InputError, match="Scores of pixels"):
        whole.predict(picture, scores=True)
    with pytest.raises(InputError, match="'panoptc'"):
        whole.predict(picture, task="panoptc")
    with pytest.raises(InputError, match="'panoptc'"):
        Predictor(model, classes, device="cpu", task="panoptc")
    with pytest.raises(InputError, match="Pruning"):
        whole.prune([picture])
    with pytest.raises(InputError, match="object gives labels or scores"):
        protocol_segments(object(), image, Protocol(), classes)
    model.readout = PerPixel()
    with pytest.raises(InputError, match="PerPixel"):
        Predictor(model, classes, device="cpu").predict(picture, task="instance")


def test_the_recipe_says_the_task():
    assert recorded_task({"data": {"task": "panoptic"}}) == "panoptic"
    assert recorded_task({"data": None}) == recorded_task({}) == "semantic"
    with pytest.raises(InputError, match="'objects'"):
        recorded_task({"data": {"task": "objects"}})
