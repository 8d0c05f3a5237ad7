"""What is OpenVINO's own: int8, processors, damaged files."""

from __future__ import annotations

import sys

import pytest

import queryseg
from queryseg.data.streets import DOMAINS
from queryseg.errors import CheckpointError, InputError
from queryseg.export import calibration, openvino_format, parity_gate

from .conftest import QPROMPT, Scenes, export

pytest.importorskip("openvino")


def test_int8_says_what_it_was_calibrated_with(exported):
    """The gate compares mIoU; the record tells the images."""
    pytest.importorskip("nncf")
    path, report = exported(QPROMPT, "openvino", "int8")
    assert report.passed
    row = report.rows[0]
    assert row.mean_iou_model > 0.5
    assert row.mean_iou_change >= -parity_gate.MAX_MIOU_DROP
    assert 0.95 < row.agreement < 1, "quantised, so some labels differ"
    record = queryseg.load(path, device="cpu").engine.record
    assert dict(record.calibration) == {f"streets_{domain}": calibration.NUM_STREETS for domain in DOMAINS}
    text = path.read_text()
    assert '"i8"' in text
    assert 'type="FakeQuantize"' in text
    assert '"node_div/fq_output_0" type="FakeQuantize"' not in text, "the stem's input stays in float"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_stem_stays_in_float32(precision, exported):
    """bfloat16 would merge grey levels of dark images; what is behind the stem is computed as asked for. The mark is in
    the file, so that other programs that run it find it, too."""
    if precision == "int8":
        pytest.importorskip("nncf")
    if not openvino_format._computes(openvino_format.require("openvino", "openvino").Core(), "CPU", "bf16"):
        pytest.skip("this processor does not compute in bf16")
    path, _ = exported(QPROMPT, "openvino", precision)
    compiled = queryseg.load(path, device="cpu").engine.runner.compiled
    nodes = [(node.get_friendly_name(), node.get_rt_info()) for node in compiled.get_runtime_model().get_ordered_ops()]
    kinds = [(name, info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for name, info in nodes]
    first = next(kind for _, layer, kind in kinds if layer == "Convolution")
    assert first == "f32", "patches to tokens"
    products = [kind for _, layer, kind in kinds if layer in ("FullyConnected", "MatMul")]
    assert set(products) & {"bf16", "i8", "u8"}, f"blocks are computed in {set(products)}"


def test_bf16_needs_a_processor(qprompt, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_format, "_computes", lambda core, device, precision: False)
    with pytest.raises(InputError, match="does not compute in bf16"):
        export(qprompt, tmp_path / "model.xml", "openvino", precision="bf16")


def test_without_nncf(qprompt, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(InputError, match=r"int8 needs the package nncf.*queryseg\[export\]"):
        export(qprompt, tmp_path / "model.xml", "openvino", precision="int8", datasets={"scenes": Scenes()})


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
