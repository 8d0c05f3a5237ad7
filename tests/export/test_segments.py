"""Exported files that keep what segments are read of."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import queryseg
from queryseg.data.class_table import class_table
from queryseg.data.protocol import Protocol
from queryseg.data.streets import Streets
from queryseg.errors import InputError
from queryseg.export.exporter import ExportOptions, export_model
from queryseg.export.parity_gate import Parity
from queryseg.inference.engine import Engine
from queryseg.inference.predictor import Predictor
from queryseg.readouts import Mixture, PerPixel, RegionAssembly

from .conftest import MODELS, PAIRS, SIZE, Scenes, fitted

CLASSES = class_table({"names": list(MODELS.NAMES), "things": [MODELS.NAMES[1]]})


@pytest.fixture
def model(qprompt):
    model = copy.deepcopy(qprompt)
    model.readout = Mixture(object_threshold=0.1, overlap_threshold=0.2, instance_threshold=0.1)
    return model


def made(model, path: Path, **options):
    chosen = ExportOptions(SIZE, segments=True, **options)
    format = {".pt2": "torch", ".onnx": "onnx", ".xml": "openvino"}[path.suffix]
    return export_model(model, CLASSES, Protocol(), format, path, chosen, {"scenes": Scenes()}, device="cpu")


@pytest.mark.parametrize(
    ("suffix", "options"), [(".pt2", {}), (".pt2", {"dynamic_size": True, "scores": True}), (".onnx", {})], ids=str
)
def test_a_file_finds_the_segments_of_its_run(model, tmp_path, suffix, options):
    """Panoptic and instances, at sizes that are fitted to the file too; the gate compared segments."""
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    path = tmp_path / f"model{suffix}"
    report = made(model, path, **options)
    assert report.rows[0].segment_agreement > 0.9999
    assert "of the same segment" in str(report.rows[0])
    own = Predictor(copy.deepcopy(model), CLASSES, device="cpu", task="panoptic")
    file = queryseg.load(path, device="cpu", task="panoptic")
    assert file.engine.record.segments["object_threshold"] == 0.1
    image = Streets("clear", 1, 2_000_000, SIZE)[0].image
    for task in ("panoptic", "instance"):
        expected, found = own.predict(image, task=task), file.predict(image, task=task)
        assert len(expected.segments) >= (2 if task == "panoptic" else 1), "a comparison that cannot fail"
        assert [s.label for s in found.segments] == [s.label for s in expected.segments]
        assert (found.segment_map == expected.segment_map).mean() > 0.999
        np.testing.assert_allclose([s.score for s in found.segments], [s.score for s in expected.segments], atol=1e-3)
    assert file.predict(image, task="semantic").labels.shape == SIZE
    wide = torch.nn.functional.pad(image, (0, 40))  # 64×104: shrunk into the file, or seen at its own size
    found = file.predict(wide)
    assert found.segment_map.shape == (64, 104)
    if options:
        expected = own.predict(wide)
        assert (found.segment_map == expected.segment_map).mean() > 0.99
    else:
        assert {s.label for s in found.segments} & {s.label for s in own.predict(wide).segments}


def test_what_keeps_no_segments_says_so(model, exported, tmp_path):
    from .conftest import QPROMPT

    path, _ = exported(QPROMPT, "torch")
    with pytest.raises(InputError, match="export it again with --segments"):
        queryseg.load(path, device="cpu", task="panoptic")
    plain = class_table(list(MODELS.NAMES))
    options = ExportOptions(SIZE, segments=True)
    with pytest.raises(InputError, match="is a thing"):
        export_model(model, plain, Protocol(), "torch", tmp_path / "a.pt2", options, {"scenes": Scenes()})
    model.readout = PerPixel()
    with pytest.raises(InputError, match="PerPixel is not kept"):
        export_model(model, CLASSES, Protocol(), "torch", tmp_path / "a.pt2", options, {"scenes": Scenes()})


def test_segments_must_agree_as_labels_must():
    nan = float("nan")
    assert Parity("a", 1, 3, 1.0, nan, nan, nan, nan, segment_agreement=0.9999).passes("fp32")
    assert not Parity("a", 1, 3, 1.0, nan, nan, nan, nan, segment_agreement=0.9998).passes("fp32")
    assert Parity("a", 1, 3, 1.0, nan, nan, nan, nan).passes("fp32")


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".xml"])
def test_queries_chosen_from_pixels_with_the_readout_of_their_method(tmp_path, suffix):
    """The choice is in the graph, for labels (255: nothing) and for segments; the gate compared both."""
    for package in {".onnx": ("onnxruntime", "onnxscript"), ".xml": ("openvino", "onnxscript")}.get(suffix, ()):
        pytest.importorskip(package)
    model = copy.deepcopy(fitted(next(pair for pair in PAIRS if pair[1].endswith(".SelectedPixels"))))
    model.readout = RegionAssembly(object_threshold=0.2, overlap_threshold=0.4, semantic_threshold=0.3)
    path = tmp_path / f"model{suffix}"
    report = made(model, path, scores=True)
    assert report.rows[0].segment_agreement > 0.999
    file = queryseg.load(path, device="cpu", task="panoptic")
    assert isinstance(file.engine.readout, RegionAssembly)
    assert file.engine.readout.options == model.readout.options
    images = torch.stack([scene.image for scene in Scenes()])
    expected = torch.cat([Engine(model)(image[None]) for image in images])
    found = torch.cat([file.engine(image[None]) for image in images])
    assert expected.unique().numel() >= 3, "a comparison that cannot fail"
    assert (expected == found).float().mean() > 0.9999
