"""Every format keeps what every model says; models are those of tests/contracts, found without being listed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import queryseg
from queryseg import loading
from queryseg.data.streets import Streets
from queryseg.export.exported_engine import FORMATS, suffixes
from queryseg.inference.predictor import Predictor

from .conftest import PAIRS, SIZE, export, lively


@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "+".join(path.rpartition(".")[2] for path in pair))
def test_a_file_predicts_what_its_model_predicts(pair, format, tmp_path):
    pytest.importorskip("onnxscript")
    model = lively(pair)
    path = tmp_path / f"model{FORMATS[format].suffix}"
    report = export(model, path, format)
    assert report.passed
    assert max(row.num_classes for row in report.rows) > 1, "a comparison that cannot fail"

    predictor = queryseg.load(path, device="cpu")
    expected = Predictor(model, predictor.classes, device="cpu")
    for image in (Streets("fog", 1, 7, SIZE)[0].image, Streets("snow", 1, 8, SIZE)[0].image):
        picture = image.permute(1, 2, 0).numpy()
        assert (predictor.predict(picture).labels == expected.predict(picture).labels).mean() > 0.9999
    record = predictor.engine.record
    assert (record.format, record.precision, record.size) == (format, "fp32", SIZE)
    assert record.classes.names == model.dims.class_names
    assert record.parity["passed"]
    assert {file.name for file in tmp_path.iterdir()} == {path.name}


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_dynamic_batch_and_scores(qprompt, format, tmp_path):
    pytest.importorskip("onnxscript")
    path = tmp_path / f"model{FORMATS[format].suffix}"
    report = export(qprompt, path, format, dynamic_batch=True, scores=True)
    assert all(0 <= row.max_score_error < 1e-3 for row in report.rows)
    engine = queryseg.load(path, device="cpu").engine
    images = torch.stack([Streets(domain, 1, 9, SIZE)[0].image for domain in ("clear", "fog", "night")])
    with torch.no_grad():
        expected = Predictor(qprompt, engine.record.classes, device="cpu").engine
        for batch in (images[:1], images[:2], images):
            assert (engine(batch) == expected(batch)).float().mean() > 0.9999
            torch.testing.assert_close(engine.find(batch).scores(), expected.find(batch).scores(), rtol=0, atol=1e-3)


def test_one_list_of_suffixes():
    assert set(suffixes()) == set(loading.EXPORTED)


def test_labels_are_bytes(qprompt, tmp_path):
    path = tmp_path / "model.pt2"
    export(qprompt, path, "torch")
    labels = queryseg.load(path).predict(np.zeros((*SIZE, 3), np.uint8)).labels
    assert labels.dtype == np.uint8
    assert labels.shape == SIZE
