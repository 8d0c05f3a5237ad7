"""COCO panoptic files: what is written is read back, and what does not fit is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from queryseg.data.class_table import CITYSCAPES, ClassTable
from queryseg.data.coco_panoptic import (
    CocoPanoptic,
    PanopticImage,
    SegmentInfo,
    categories_of,
    read_segment_ids,
    to_maps,
    to_segments,
    write_segment_ids,
)
from queryseg.errors import InputError

TABLE = ClassTable("street", ("road", "car", "person"), ((128, 64, 128), (0, 0, 142), (220, 20, 60)), frozenset({1, 2}))


def _maps() -> tuple[Tensor, Tensor]:
    """Road, two cars that touch, a crowd of persons, one ignored pixel."""
    label_map = torch.tensor([[0, 0, 0, 255], [1, 1, 1, 0], [2, 2, 1, 0]], dtype=torch.uint8)
    instance_map = torch.tensor([[0, 0, 0, 0], [1, 1, 7, 0], [0, 0, 7, 0]], dtype=torch.int32)
    return label_map, instance_map


def test_segments_of_maps() -> None:
    """One segment per stuff class, per object and per crowd, with area and box; the ignored pixel is void."""
    ids, segments = to_segments(*_maps(), TABLE.things)
    assert ids.tolist() == [[1, 1, 1, 0], [2, 2, 3, 1], [4, 4, 3, 1]]
    by_category = {(s.category_id, s.is_crowd, s.area, s.bbox) for s in segments}
    assert by_category == {
        (0, False, 5, (0, 0, 4, 3)),
        (1, False, 2, (0, 1, 2, 1)),
        (1, False, 2, (2, 1, 1, 2)),
        (2, True, 2, (0, 2, 2, 1)),
    }
    assert ids.dtype == torch.int32


def test_a_prediction_has_no_crowds() -> None:
    """In a prediction, instance 0 of a thing is nothing."""
    ids, segments = to_segments(*_maps(), TABLE.things, crowds=False)
    assert [s.category_id for s in segments] == [0, 1, 1]
    assert ids[2].tolist()[:2] == [0, 0]


def test_maps_and_segments_are_each_others_reverse(tmp_path: Path) -> None:
    """Maps → PNG and JSON → maps: labels are equal, objects are numbered 1 … without gaps, crowds stay 0."""
    label_map, instance_map = _maps()
    ids, segments = to_segments(label_map, instance_map, TABLE.things)
    write_segment_ids(tmp_path / "a.png", ids)
    CocoPanoptic(categories_of(TABLE), (PanopticImage("a", "a.jpg", "a.png", (3, 4), segments),)).write(
        tmp_path / "a.json"
    )
    read = CocoPanoptic.read(tmp_path / "a.json")
    assert read.class_table("street") == TABLE
    assert read.images[0] == PanopticImage("a", "a.jpg", "a.png", (3, 4), segments)
    again = to_maps(
        read_segment_ids(tmp_path / "a.png"), read.images[0].segments, read.labels(TABLE), TABLE.things, "a.png"
    )
    assert torch.equal(again[0], label_map)
    assert again[0].dtype == torch.uint8
    assert torch.equal(again[1], torch.where(instance_map == 7, 2, instance_map))
    assert again[1].dtype == torch.int32


def test_random_maps_survive(tmp_path: Path) -> None:
    """Through files, the partition of 200 random label and instance maps stays what it was."""
    rng = np.random.default_rng(0)
    things = CITYSCAPES.things
    labels = {label: label for label in range(19)}
    for _ in range(200):
        label_map = torch.from_numpy(rng.choice([*range(19), 255], (9, 11)).astype(np.uint8))
        instance_map = torch.from_numpy(rng.integers(0, 4, (9, 11)).astype(np.int32) + 1)
        crowd = torch.from_numpy(rng.random((9, 11)) < 0.2)
        # an object has one class: its number is made unique by the class
        instance_map = torch.where(crowd, 0, instance_map + 10 * label_map.int())
        is_thing = torch.isin(label_map, torch.tensor(sorted(things)))
        ids, segments = to_segments(label_map, instance_map, things)
        again_labels, again_instances = to_maps(ids, segments, labels, things)
        assert torch.equal(again_labels, label_map)
        instance_map = torch.where(is_thing, instance_map, 0)
        assert torch.equal(again_instances == 0, instance_map == 0)
        pairs = torch.stack([again_instances.flatten(), instance_map.flatten()]).unique(dim=1)
        assert pairs.shape[1] == len(instance_map.unique()) == len(again_instances.unique())


def test_ids_use_all_three_bytes(tmp_path: Path) -> None:
    """R + 256·G + 65536·B, in both directions, against bytes written by hand."""
    Image.fromarray(np.array([[[1, 2, 3], [0, 0, 0]]], np.uint8)).save(tmp_path / "a.png")
    ids = read_segment_ids(tmp_path / "a.png")
    assert ids.tolist() == [[1 + 2 * 256 + 3 * 65536, 0]]
    write_segment_ids(tmp_path / "b.png", ids)
    assert np.asarray(Image.open(tmp_path / "b.png")).tolist() == [[[1, 2, 3], [0, 0, 0]]]
    with pytest.raises(InputError, match="16777216"):
        write_segment_ids(tmp_path / "c.png", torch.tensor([[256**3]]))


def test_gaps_and_crowds_of_stuff() -> None:
    """Category ids with gaps are mapped, ignored categories become 255, and so does a crowd of stuff."""
    ids = torch.tensor([[70000, 5, 9, 0]])
    segments = [SegmentInfo(70000, 200), SegmentInfo(5, 17, is_crowd=True), SegmentInfo(9, 3)]
    label_map, instance_map = to_maps(ids, segments, {200: 1, 17: 0, 3: 255}, frozenset({1}))
    assert label_map.tolist() == [[1, 255, 255, 255]]
    assert instance_map.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([SegmentInfo(1, 0)], "pixels of segment 2"),
        ([SegmentInfo(1, 0), SegmentInfo(1, 0), SegmentInfo(2, 0)], "twice"),
        ([SegmentInfo(1, 0), SegmentInfo(2, 77)], "category 77"),
    ],
)
def test_png_and_json_must_agree(segments: list[SegmentInfo], message: str) -> None:
    """Unlisted segments, repeated ids and unknown categories are refused, and the file is named."""
    with pytest.raises(InputError, match=message) as caught:
        to_maps(torch.tensor([[1, 2]]), segments, {0: 0}, frozenset(), "x.png")
    assert "x.png" in str(caught.value)


def test_bad_json_is_refused(tmp_path: Path) -> None:
    """A missing file, broken JSON, detection instead of panoptic annotations, an unknown image."""
    path = tmp_path / "p.json"
    with pytest.raises(InputError, match="cannot be read"):
        CocoPanoptic.read(path)
    path.write_text('{"images": [')
    with pytest.raises(InputError, match="no JSON"):
        CocoPanoptic.read(path)
    category = {"id": 1, "name": "car", "isthing": 1}
    image = {"id": 1, "file_name": "a.jpg"}
    for annotation in ({"image_id": 1, "category_id": 3}, {"image_id": 2, "file_name": "a.png", "segments_info": []}):
        path.write_text(json.dumps({"images": [image], "annotations": [annotation], "categories": [category]}))
        with pytest.raises(InputError, match=r"p\.json' is no COCO panoptic JSON"):
            CocoPanoptic.read(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="no COCO panoptic JSON"):
        CocoPanoptic.read(path)


def test_categories_without_class_are_named() -> None:
    """A category that the class table does not have is named, with the nearest class."""
    with pytest.raises(InputError, match=r"'persn'.*'street'.*person"):
        CocoPanoptic(categories_of(ClassTable("x", ("persn",), ((0, 0, 0),))), ()).labels(TABLE)
