"""Bands around borders against scipy's distance transform and erosion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from queryseg.metrics.boundary_band import class_edges, contour_band, euclidean_band


@st.composite
def label_maps(draw) -> np.ndarray:
    """Up to 20×20 in blocks, three classes and ignored pixels; single rows and columns among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width, block = draw(st.integers(1, 10)), draw(st.integers(1, 10)), draw(st.integers(1, 2))
    labels = rng.choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), (height, width))
    return labels.repeat(block, 0).repeat(block, 1)


@given(label_maps(), st.integers(1, 25))
@settings(max_examples=200, deadline=None)
def test_the_band_equals_the_distance_transform(labels, width):
    edges = class_edges(torch.from_numpy(labels))
    band = euclidean_band(edges, width)
    if not edges.any():
        assert not band.any()
    else:
        squared = ndimage.distance_transform_edt(~edges.numpy()) ** 2
        assert np.array_equal(band, squared.round() < width * width)


@given(label_maps(), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_the_contour_equals_erosion_per_class(labels, reach):
    expected = np.zeros(labels.shape, bool)
    for k in range(3):
        mask = labels == k
        expected |= mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=reach, border_value=0)
    assert np.array_equal(contour_band(torch.from_numpy(labels), reach), expected)


@given(label_maps(), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_the_neutral_contour_lies_only_near_other_classes(labels, reach):
    expected = np.zeros(labels.shape, bool)
    for k in range(3):
        others = (labels != k) & (labels != 255)
        near = ndimage.binary_dilation(others, np.ones((3, 3)), iterations=reach)
        expected |= (labels == k) & near
    assert np.array_equal(contour_band(torch.from_numpy(labels), reach, "neutral"), expected)


def test_edges_by_hand():
    """Both sides of a border; not beside ignored pixels, not at the image's border, not diagonally."""
    labels = torch.tensor([[0, 0, 1, 1], [0, 0, 255, 1], [0, 255, 2, 1]], dtype=torch.uint8)
    assert class_edges(labels).int().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("width", [1, 3])
def test_a_band_wider_than_the_image_holds_all_of_it(width):
    edges = torch.zeros(width, 5, dtype=torch.bool)
    edges[0, 0] = True
    assert euclidean_band(edges, 100).all()
