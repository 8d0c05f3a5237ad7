"""OpenVINO files say what their model says, in every precision that they keep."""

from __future__ import annotations

import pytest

import queryseg
from queryseg.data.streets import Streets
from queryseg.errors import CheckpointError, InputError
from queryseg.export import parity_gate
from queryseg.inference.predictor import Predictor

from .conftest import SIZE, export

pytest.importorskip("openvino")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions(qprompt, precision, tmp_path, monkeypatch):
    if precision != "fp32":  # random weights leave classes close, so that rounding moves more borders than in a run
        monkeypatch.setattr(parity_gate, "MIN_AGREEMENT", {precision: 0.97})
    path = tmp_path / "model.xml"
    if precision == "bf16":
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            with pytest.raises(InputError, match="does not compute in bf16"):
                export(qprompt, path, "openvino", precision=precision)
            return
    report = export(qprompt, path, "openvino", precision=precision, dynamic_batch=True, scores=True)
    assert {file.name for file in tmp_path.iterdir()} == {"model.xml", "model.bin"}
    assert (report.rows[0].max_score_error > 1e-4) == (precision != "fp32"), "half precision rounds, float32 hardly"
    predictor = queryseg.load(path, device="cpu")
    assert predictor.engine.record.precision == precision
    picture = Streets("fog", 1, 7, SIZE)[0].image.permute(1, 2, 0).numpy()
    expected = Predictor(qprompt, predictor.classes, device="cpu").predict(picture).labels
    assert (predictor.predict(picture).labels == expected).mean() > 0.97


def test_files_that_are_none(tmp_path):
    path = tmp_path / "model.xml"
    path.write_text("<net")
    with pytest.raises(CheckpointError, match="damaged") as caught:
        queryseg.load(path)
    assert "\n" not in str(caught.value)
    path.write_text("")
    with pytest.raises(CheckpointError):
        queryseg.load(path)
    with pytest.raises(InputError, match="cannot use device 'toaster'"):
        queryseg.load(path, device="toaster")
