import numpy as np
import pytest
from PIL import Image

from queryseg.data.class_table import class_table
from queryseg.data.image_file import read_label
from queryseg.errors import InputError
from queryseg.inference.segmentation import Segmentation


@pytest.fixture
def segmentation():
    labels = np.array([[0, 1, 1], [2, 2, 2]], dtype=np.uint8)
    colors = [[9, 0, 0], [0, 9, 0], [0, 0, 9], [1, 2, 3]]
    table = class_table({"names": ["road", "car", "sky", "tree"], "colors": colors})
    return Segmentation(np.full((2, 3, 3), 100, np.uint8), labels, table)


def test_labels_come_back_as_they_were_from_every_reader(segmentation, tmp_path):
    path = tmp_path / "labels.png"
    segmentation.save(path)
    assert Image.open(path).mode == "L"
    assert np.array_equal(np.asarray(Image.open(path)), segmentation.labels)
    assert np.array_equal(read_label(path), segmentation.labels)


def test_colours_are_those_of_the_classes(segmentation, tmp_path):
    segmentation.save(str(tmp_path / "color.png"), "color")
    assert np.asarray(Image.open(tmp_path / "color.png"))[0].tolist() == [[9, 0, 0], [0, 9, 0], [0, 9, 0]]


def test_overlay_runs_from_image_to_colours(segmentation, tmp_path):
    assert np.array_equal(np.asarray(segmentation.overlay(0)), segmentation.image)
    assert np.array_equal(np.asarray(segmentation.overlay(1)), np.asarray(segmentation.color()))
    segmentation.save(tmp_path / "overlay.jpg", "overlay")
    assert Image.open(tmp_path / "overlay.jpg").size == (3, 2)


def test_shares_name_all_classes_and_sum_to_one(segmentation):
    assert segmentation.share() == {"road": 1 / 6, "car": 2 / 6, "sky": 3 / 6, "tree": 0.0}


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("labels.jpg", "labels", "does not end in .png"),
        ("colors", "color", "does not end in .png"),
        ("overlay.pgn", "overlay", "no picture's extension"),
        ("missing/labels.png", "labels", "could not be written"),
        ("labels.png", "panoptic", "'labels', 'color', 'overlay' or 'segments', not as 'panoptic'"),
    ],
)
def test_files_that_cannot_be_written_are_refused(segmentation, tmp_path, path, kind, message):
    with pytest.raises(InputError, match=message):
        segmentation.save(tmp_path / path, kind)
    assert not list(tmp_path.iterdir())


def test_alpha_outside_its_range_is_refused(segmentation):
    with pytest.raises(InputError, match=r"alpha is 1\.5"):
        segmentation.overlay(1.5)
