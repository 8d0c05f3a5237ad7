"""Streets: the same scene everywhere and always, all classes, all domains, and every input a user can get wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from queryseg.data.class_table import CITYSCAPES
from queryseg.data.streets import DOMAINS, Streets, render
from queryseg.data.streets.labels import FIRST_THING, POLE, RIDER, SKY
from queryseg.data.streets.raster import SKY_DEPTH
from queryseg.errors import InputError

SIZE = (64, 128)


def fingerprint(domain: str) -> str:
    return hashlib.sha256(render(domain, 3, 5, SIZE).label_map.tobytes()).hexdigest()[:16]


# Pinned: a changed generator changes every published figure; rerun the scripts in benchmarks/ when these change.
HOME_LABELS = "b8a210dfbcf987e6"
OTHER_LABELS = "c4243bbb0b91bbf5"
MEANS = {
    "clear": (104.7, 101.4, 98.0),
    "fog": (115.9, 122.0, 113.7),
    "night": (94.8, 86.1, 60.3),
    "rain": (62.2, 59.9, 59.0),
    "snow": (168.6, 176.5, 169.7),
    "other_city": (114.9, 93.9, 66.8),
}


def test_domains_begin_with_the_source() -> None:
    assert DOMAINS == ("clear", "fog", "night", "rain", "snow", "other_city")


@pytest.mark.parametrize("domain", DOMAINS)
def test_scene_is_pinned(domain: str) -> None:
    assert fingerprint(domain) == (OTHER_LABELS if domain == "other_city" else HOME_LABELS)
    mean = render(domain, 3, 5, SIZE).image.reshape(-1, 3).mean(0)
    assert mean == pytest.approx(MEANS[domain], abs=1.0)


def test_another_process_draws_the_same_scene() -> None:
    code = (
        "import hashlib; from queryseg.data.streets import render; s = render('rain', 1, 2, (48, 96));"
        "print(hashlib.sha256(s.image.tobytes() + s.label_map.tobytes()).hexdigest())"
    )
    render("night", 8, 8, SIZE)  # what was drawn before must not matter
    scene = render("rain", 1, 2, (48, 96))
    ours = hashlib.sha256(scene.image.tobytes() + scene.label_map.tobytes()).hexdigest()
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert theirs == ours


@pytest.mark.parametrize("domain", DOMAINS)
def test_maps_agree(domain: str) -> None:
    scene = render(domain, 0, 1, SIZE)
    assert scene.image.shape == (*SIZE, 3)
    assert scene.image.dtype == np.uint8
    assert scene.label_map.shape == scene.instance_map.shape == scene.depth.shape == SIZE
    assert scene.label_map.dtype == np.uint8
    assert scene.label_map.max() < len(CITYSCAPES.names)
    things = scene.label_map >= FIRST_THING
    np.testing.assert_array_equal(scene.instance_map > 0, things)
    for instance in np.unique(scene.instance_map[things]):
        assert len(np.unique(scene.label_map[scene.instance_map == instance])) == 1
    assert scene.depth.dtype == np.float32
    np.testing.assert_array_equal(scene.depth >= SKY_DEPTH * 0.99, scene.label_map == SKY)
    assert scene.depth.min() > 1


def test_samples_tell_objects_apart() -> None:
    """The renderer's numbers reach the sample, and people that stand apart have numbers of their own."""
    sample = Streets("clear", 3, size=SIZE)[1]
    scene = render("clear", 0, 1, SIZE)
    assert sample.instance_map is not None
    np.testing.assert_array_equal(sample.instance_map.numpy(), scene.instance_map)
    assert sample.instance_map.dtype == torch.int32
    assert max(len(np.unique(scene.instance_map[scene.label_map == label])) for label in (11, 13)) >= 2


def test_weather_keeps_the_scene_and_changes_the_picture() -> None:
    clear = render("clear", 2, 3, SIZE)
    for domain in DOMAINS[1:-1]:
        other = render(domain, 2, 3, SIZE)
        np.testing.assert_array_equal(other.label_map, clear.label_map)
        np.testing.assert_array_equal(other.instance_map, clear.instance_map)
        np.testing.assert_array_equal(other.depth, clear.depth)
        assert np.abs(other.image.astype(int) - clear.image).mean() > 10
    assert (render("other_city", 2, 3, SIZE).label_map != clear.label_map).mean() > 0.1


def test_seeds_and_indices_give_different_scenes() -> None:
    scenes = [render("clear", seed, index, SIZE).label_map for seed in range(3) for index in range(3)]
    for i, one in enumerate(scenes):
        for other in scenes[:i]:
            assert (one != other).mean() > 0.05


def test_all_classes_occur_often() -> None:
    share = np.zeros(19)
    for index in range(40):
        share += np.bincount(render("clear", 4, index, SIZE).label_map.ravel(), minlength=19) >= 8
    assert (share / 40 >= 0.25).all(), dict(zip(CITYSCAPES.names, share / 40, strict=True))


def test_the_road_recedes() -> None:
    """Depth of the road is the camera's height over the slope of the ray: it grows towards the horizon."""
    scene = render("clear", 0, 7, (128, 256))
    column = scene.depth[:, 128][scene.label_map[:, 128] == 0]
    assert (np.diff(column) < 0).all()
    assert 2 < column[-1] < 8


def test_fog_hides_the_far_more_than_the_near() -> None:
    """Koschmieder: what lies far takes the colour of the air."""
    scene = render("fog", 2, 3, (128, 256))
    grey, solid = scene.image.mean(2), scene.label_map != SKY
    air = grey[~solid].mean()
    rings = [solid & (scene.depth >= low) & (scene.depth < high) for low, high in ((0, 12), (20, 40), (60, 200))]
    difference = [np.abs(grey[ring] - air).mean() for ring in rings]
    assert difference[0] > difference[1] > difference[2]


def test_thin_things_survive_a_large_size() -> None:
    labels = render("clear", 0, 0, (256, 512)).label_map
    poles = labels[60:120] == POLE
    assert (poles[:, 1:] & poles[:, :-1]).any()  # at least two pixels wide
    assert (labels == RIDER).sum() > 100


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (200, 64), (96, 384)])
def test_any_size(size: tuple[int, int]) -> None:
    for domain in DOMAINS:
        assert render(domain, 0, 0, size).image.shape == (*size, 3)


def test_dataset_hands_out_samples() -> None:
    streets = Streets("fog", 3, 7, SIZE)
    assert len(streets) == 3
    assert streets.classes is CITYSCAPES
    sample = streets[2]
    assert sample.name == "fog_7_000002"
    assert sample.image.shape == (3, *SIZE)
    assert sample.image.dtype == sample.label_map.dtype == torch.uint8
    scene = render("fog", 7, 2, SIZE)
    np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), scene.image)
    np.testing.assert_array_equal(sample.label_map.numpy(), scene.label_map)
    with pytest.raises(IndexError):
        streets[3]
    assert len(list(streets)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "nigth"}, "'night'"),
        ({"size": (16, 512)}, "at least 32"),
        ({"size": (256, -1)}, "at least 32"),
        ({"size": (256,)}, "height, width"),
        ({"num_images": 0}, "at least 1 image"),
        ({"seed": -1}, "from 0 upwards"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Streets(**arguments)  # type: ignore[arg-type]


def test_negative_index() -> None:
    with pytest.raises(InputError, match="numbers start at 0"):
        render("clear", 0, -1)
