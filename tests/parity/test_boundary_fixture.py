"""Boundary metrics equal brute-force numpy on four small label maps with thin lines, ignored strips and odd sizes.

`boundary/dev.json` draws the label maps, `boundary/dev.npz` holds what must come out. Its `diag/*` are what common
slips would give; none of them may come out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from queryseg.metrics import BoundaryIoU, Measurement, Metric, PixelScores, PredictedMaps, Trimap
from queryseg.metrics.boundary_band import class_edges, euclidean_band
from queryseg.metrics.boundary_iou import contour_margins
from queryseg.metrics.trimap import trimap_counts
from queryseg.types import Sample

FOLDER = Path(__file__).with_name("boundary")
K = 19


class Case:
    """The fixture's label maps, rebuilt from its seed as its manifest says."""

    def __init__(self) -> None:
        manifest: dict[str, Any] = json.loads((FOLDER / "dev.json").read_text())
        self.gold = dict(np.load(FOLDER / "dev.npz"))
        draw = np.random.Generator(np.random.PCG64(manifest["seed"]))
        drawn = {}
        for entry in manifest["tensors"]:  # the order matters
            value = np.asarray(draw.standard_normal(tuple(entry["shape"])) * entry["scale"] + entry["offset"])
            assert np.allclose(value.reshape(-1)[:3], entry["first"], rtol=1e-12)
            drawn[entry["name"]] = value
        recipe = manifest["recipe"]
        self.label_maps, self.predictions = [], []
        kinds = (
            (self.label_maps, "gt", 0, recipe["sites"], recipe["rectangles"]),
            (self.predictions, "pred", 1, recipe["pred_sites"], recipe["pred_rectangles"]),
        )
        for k, (height, width) in enumerate(recipe["sizes"]):
            rows, columns = np.mgrid[:height, :width]
            for maps, name, jitter, sites, rectangles in kinds:
                points = (0.5 + 0.28 * drawn[f"site_{k}"] + jitter * drawn[f"jitter_{k}"]) * [height, width]
                distance = (rows - points[:, 0, None, None]) ** 2 + (columns - points[:, 1, None, None]) ** 2
                labels = np.array(sites[k])[distance.argmin(0)]
                for image, top, bottom, left, right, label in rectangles:
                    if image == k:
                        labels[top:bottom, left:right] = label
                assert np.array_equal(labels, self.gold[f"{name}_{k}"])
                maps.append(torch.from_numpy(labels.astype(np.uint8)))

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.predictions, self.label_maps, strict=True))

    def measured(self, metric: Metric) -> Measurement:
        for prediction, label_map in self.pairs():
            metric.update(PredictedMaps(prediction), Sample(torch.empty(0), label_map, ""))
        return metric.compute()


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def test_edges_and_distances(case):
    """Every width up to 9 pixels, one image without any edge: the band is what the squared distances say."""
    for k, label_map in enumerate(case.label_maps):
        edges = class_edges(label_map)
        assert np.array_equal(edges, case.gold[f"edge_{k}"])
        squared = case.gold[f"sqdist_{k}"]
        for width in range(1, 10):
            expected = (squared >= 0) & (squared < width * width)
            assert np.array_equal(euclidean_band(edges, width), expected), (k, width)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_trimap(case, width):
    confusion = sum(trimap_counts(*pair, K, [width])[0, :, :-1] for pair in case.pairs())
    assert np.array_equal(confusion, case.gold[f"trimap_{width}/confusion"])
    found = case.measured(Trimap(K, [width]))
    iou, mean = found.per_class()[f"iou_{width}px"], found.scores()[f"mean_iou_{width}px"]
    np.testing.assert_allclose(iou, case.gold[f"trimap_{width}/iou"], rtol=0, atol=1e-12, equal_nan=True)
    assert mean == pytest.approx(float(case.gold[f"trimap_{width}/miou"]), abs=1e-12)
    slips = [float(v) for name, v in case.gold.items() if name.startswith(f"diag/trimap_{width}_")]
    assert slips, "there must be slips to compare with"
    assert all(abs(mean - slip) > 1e-6 for slip in slips)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize(("void", "name"), [("contour", "biou"), ("neutral", "biou_neutral")])
def test_boundary_iou(case, width, void, name):
    both, labelled, predicted = sum(contour_margins(*pair, K, width, void) for pair in case.pairs())
    assert np.array_equal(both, case.gold[f"{name}_{width}/intersection"])
    assert np.array_equal(labelled + predicted - both, case.gold[f"{name}_{width}/union"])
    found = case.measured(BoundaryIoU(K, [width], dilation_ratio=None, void=void))
    iou, mean = found.per_class()[f"iou_{width}px"], found.scores()[f"mean_iou_{width}px"]
    np.testing.assert_allclose(iou, case.gold[f"{name}_{width}/iou"], rtol=0, atol=1e-12, equal_nan=True)
    assert mean == pytest.approx(float(case.gold[f"{name}_{width}/miou"]), abs=1e-12)


def test_all_pixels(case):
    found = case.measured(PixelScores(K))
    assert np.array_equal(found.total, case.gold["overall/confusion"])
    assert found.scores()["mean_iou"] == pytest.approx(float(case.gold["overall/miou"]), abs=1e-12)
