"""Panoptic quality against torchmetrics, against the COCO evaluator's rules written as loops, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.detection import PanopticQuality as Reference

from queryseg.errors import InputError
from queryseg.metrics import PanopticMap, PanopticQuality, PredictedMaps
from queryseg.metrics.panoptic_quality import panoptic_counts
from queryseg.types import Sample

K, THINGS, STUFF = 5, {1, 3, 4}, {0, 2}
Maps = tuple[np.ndarray, np.ndarray]


@st.composite
def pairs(draw, crowd: bool, unassigned: bool) -> tuple[Maps, Maps]:
    """Ground truth in blocks with void; a prediction that is right in most pixels, so that segments match.

    Instance numbers repeat between classes. crowd: 0 on things of the ground truth; unassigned: 0 on things and 255 in
    the prediction.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width, block = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 3))

    def maps(classes: list[int], lowest: int) -> Maps:
        labels = rng.choice(np.array(classes, np.uint8), (height, width))
        numbers = rng.integers(lowest, 3, (height, width))
        numbers[~np.isin(labels, list(THINGS))] = 0
        return labels.repeat(block, 0).repeat(block, 1), numbers.astype(np.int32).repeat(block, 0).repeat(block, 1)

    truth = maps([0, 1, 2, 3, 4, 1, 3, 255], 0 if crowd else 1)
    other = maps([0, 1, 2, 3, 4] + [255] * unassigned, 0 if unassigned else 1)
    wrong = rng.random(truth[0].shape) < draw(st.sampled_from([0.0, 0.1, 0.3, 0.6]))
    wrong |= truth[0] == 255
    if not unassigned:
        wrong |= np.isin(truth[0], list(THINGS)) & (truth[1] == 0)
    return truth, (np.where(wrong, other[0], truth[0]), np.where(wrong, other[1], truth[1]))


def panoptic_map(maps: Maps) -> PanopticMap:
    return PanopticMap(torch.from_numpy(maps[0]), torch.from_numpy(maps[1]))


def counts(truth: Maps, prediction: Maps) -> torch.Tensor:
    return panoptic_counts(panoptic_map(prediction), panoptic_map(truth), K, THINGS)


def metric_of(images: list[tuple[Maps, Maps]]) -> PanopticQuality:
    metric = PanopticQuality(K, THINGS)
    for truth, prediction in images:
        label_map, instance_map = panoptic_map(truth).label_map, panoptic_map(truth).instance_map
        found = panoptic_map(prediction)
        metric.update(PredictedMaps(found.label_map, found), Sample(torch.empty(0), label_map, "", instance_map))
    return metric


def loops(truth: Maps, prediction: Maps) -> np.ndarray:
    """The rules of panopticapi's evaluation, segment by segment."""
    result = np.zeros((4, K))
    void = truth[0] == 255

    def segments(maps: Maps) -> dict[tuple[int, int], np.ndarray]:
        names = sorted({(int(c), int(n)) for c, n in zip(maps[0].flat, maps[1].flat, strict=True) if c != 255})
        return {(c, n): (maps[0] == c) & (maps[1] == n) for c, n in names}

    wanted = segments(truth)
    found = {name: mask for name, mask in segments(prediction).items() if name[0] in STUFF or name[1] > 0}
    crowds = {name[0]: mask for name, mask in wanted.items() if name[0] in THINGS and name[1] == 0}
    wanted = {name: mask for name, mask in wanted.items() if name[0] in STUFF or name[1] > 0}
    matched = set()
    for name, mask in wanted.items():
        for other, guess in found.items():
            if name[0] == other[0]:
                iou = (mask & guess).sum() / ((mask | guess) & ~(void & guess)).sum()
                if iou > 0.5:
                    matched |= {("wanted", name), ("found", other)}
                    result[0, name[0]] += iou
                    result[1, name[0]] += 1
        result[3, name[0]] += ("wanted", name) not in matched
    for name, guess in found.items():
        forgiven = void | crowds.get(name[0], np.zeros_like(void))
        if ("found", name) not in matched and (guess & forgiven).sum() / guess.sum() <= 0.5:
            result[2, name[0]] += 1
    return result


@given(pairs(crowd=True, unassigned=True))
@settings(max_examples=300, deadline=None)
def test_counts_equal_the_coco_rules_with_void_and_crowd(pair):
    np.testing.assert_allclose(counts(*pair), loops(*pair), rtol=0, atol=1e-12)


@given(st.lists(pairs(crowd=False, unassigned=False), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_scores_equal_torchmetrics_with_void_without_crowd(images):
    reference = Reference(THINGS, STUFF, return_sq_and_rq=True, return_per_class=True)
    for truth, prediction in images:
        stacked = [torch.from_numpy(np.stack(maps, -1).astype(np.int64))[None] for maps in (prediction, truth)]
        reference.update(*stacked)
    expected = reference.compute()[torch.tensor([3, 0, 4, 1, 2])]  # things first, then stuff
    found = metric_of(images).compute()
    per_class = found.per_class()
    present = ~per_class["pq"].isnan()
    for column, name in enumerate(("pq", "sq", "rq")):
        np.testing.assert_allclose(per_class[name].nan_to_num(), expected[:, column], atol=1e-6)  # its floats are 32
        for group, members in (("", THINGS | STUFF), ("_things", THINGS), ("_stuff", STUFF)):
            inside = present & torch.tensor([k in members for k in range(K)])
            score = found.scores()[name + group]
            if inside.any():
                assert score == pytest.approx(float(expected[inside, column].mean()), abs=1e-6)
            else:
                assert math.isnan(score)


@given(st.integers(0, 10**6))
@settings(max_examples=3, deadline=None)
def test_maps_in_tatters_need_no_table_of_all_pairs(seed):
    """Every pixel of 300×400 an object of its own, in both maps: 120,000 segments, of which half match."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([1, 3], np.uint8), (300, 400))
    numbers = 1 + np.arange(labels.size, dtype=np.int32).reshape(labels.shape)
    wrong = np.arange(labels.size).reshape(labels.shape) % 2 == 0
    found = counts(
        (labels, numbers), (np.where(wrong, 4 - labels, labels).astype(np.uint8), numbers[::-1, ::-1].copy())
    )
    assert found.sum(1).tolist() == [60_000, 60_000, 60_000, 60_000]


def row(labels: list[int], numbers: list[int]) -> Maps:
    return np.array([labels], np.uint8), np.array([numbers], np.int32)


def test_void_is_taken_out_of_the_union():
    """A car of 4 pixels, found with 3 of them and 3 of void: 3/4 without void, 3/7 with it."""
    truth = row([1, 1, 1, 1, 255, 255, 255, 0], [7, 7, 7, 7, 0, 0, 0, 0])
    prediction = row([0, 1, 1, 1, 1, 1, 1, 0], [0, 9, 9, 9, 9, 9, 9, 0])
    found = counts(truth, prediction)
    assert found[:, 1].tolist() == [0.75, 1, 0, 0]
    assert found[:, 0].tolist() == [0, 0, 1, 1], "of the road, 1 of 2 pixels is half, which is no match"


@pytest.mark.parametrize(("on_crowd", "wrong"), [(3, 0), (2, 1)])
def test_objects_found_in_a_crowd_are_no_false_positives(on_crowd, wrong):
    """More than half of its 4 pixels on a crowd of its class is forgiven, half is not; the crowd is never missed."""
    truth = row([1] * on_crowd + [0] * (8 - on_crowd), [0] * 8)
    prediction = row([1] * 4 + [0] * 4, [5] * 4 + [0] * 4)
    assert counts(truth, prediction)[:, 1].tolist() == [0, 0, wrong, 0]


def test_a_crowd_of_another_class_forgives_nothing():
    assert counts(row([3] * 4, [0] * 4), row([1] * 4, [5] * 4))[2].tolist() == [0, 1, 0, 0, 0]


def test_pixels_that_nobody_assigned_are_no_segment():
    """Things with number 0 in the prediction make no false positive, and what lies there is missed."""
    found = counts(row([1, 1, 0, 0], [2, 2, 0, 0]), row([1, 1, 0, 0], [0, 0, 0, 0]))
    assert found[:, 1].tolist() == [0, 0, 0, 1]
    assert found[:, 0].tolist() == [1, 1, 0, 0]


def test_numbers_may_be_large_and_equal_in_two_classes():
    """Cityscapes' ids (26001) and COCO's colours (16 million); person 1 beside car 1."""
    truth = row([1, 1, 3, 3], [16_777_215, 16_777_215, 26_001, 26_001])
    assert counts(truth, row([1, 1, 3, 3], [1, 1, 1, 1]))[1].tolist() == [0, 1, 0, 1, 0]


def test_numbers_of_stuff_do_not_split_it():
    assert counts(row([0, 0, 0, 0], [0] * 4), row([0, 0, 0, 0], [1, 2, 3, 4]))[:2, 0].tolist() == [1, 1]


def test_scores_are_pooled_over_images():
    """One match of IoU 1, then a missed and a wrong one: PQ 1 / (1 + ½ + ½), not the mean of 1 and 0."""
    first = (row([1, 1], [1, 1]), row([1, 1], [1, 1]))
    second = (row([1, 1, 0, 0], [1, 1, 0, 0]), row([0, 0, 1, 1], [0, 0, 1, 1]))
    scores = metric_of([first, second]).compute().scores()
    assert (scores["pq_things"], scores["sq_things"], scores["rq_things"]) == (0.5, 1.0, 0.5)
    assert scores["pq_stuff"] == 0
    assert scores["pq"] == 0.25


def test_what_cannot_be_compared_is_refused():
    labels = torch.zeros(2, 2, dtype=torch.uint8)
    maps = PanopticMap(labels, torch.zeros(2, 2, dtype=torch.int32))
    sample = Sample(torch.empty(0), labels, "frame_7")
    with pytest.raises(InputError, match="'frame_7' has no instance map"):
        PanopticQuality(K, THINGS).update(PredictedMaps(labels, maps), sample)
    with pytest.raises(InputError, match="needs predicted segments"):
        PanopticQuality(K, THINGS).update(PredictedMaps(labels), sample)
    with pytest.raises(InputError, match="holds 5, but there are 5 classes"):
        panoptic_counts(maps, PanopticMap(labels + 5, maps.instance_map), K, THINGS)
    with pytest.raises(InputError, match="holds -3"):
        panoptic_counts(maps, PanopticMap(labels + 1, maps.instance_map - 3), K, THINGS)
    with pytest.raises(InputError, match="Class 5 is said to be a thing"):
        PanopticQuality(K, {5})
    only_stuff = PanopticQuality(K, ())
    only_stuff.update(PredictedMaps(labels, maps), sample)
    assert only_stuff.compute().scores()["pq"] == 1
