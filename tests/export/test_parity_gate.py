"""The gate keeps good files, refuses bad ones, and says by how much."""

from __future__ import annotations

import copy
import json

import pytest
import torch

import queryseg
from queryseg.data.protocol import Protocol
from queryseg.errors import CheckpointError, InputError
from queryseg.export import exporter
from queryseg.export.export_record import ExportRecord
from queryseg.export.parity_gate import Parity, ParityError, ParityReport

from .conftest import SIZE, export


def row(agreement: float = 1.0, change: float = 0.0, num_classes: int = 3) -> Parity:
    return Parity("streets", 2, num_classes, agreement, float("nan"), float("nan"), 0.6, 0.6 + change)


@pytest.mark.parametrize(
    ("precision", "good", "bad"),
    [
        ("fp32", row(0.9999), row(0.99985)),
        ("bf16", row(0.995), row(0.994)),
        ("fp16", row(0.995), row(0.994)),
        ("int8", row(0.9, -0.0049), row(1.0, -0.0051)),
    ],
)
def test_limits(precision, good, bad):
    ParityReport(precision, (good, good)).check()
    with pytest.raises(ParityError, match="streets: "):
        ParityReport(precision, (good, bad)).check()


def test_a_comparison_that_cannot_fail_is_no_comparison():
    with pytest.raises(InputError, match="all test images one class"):
        ParityReport("fp32", (row(num_classes=1),)).check()


def test_a_broken_export_is_rejected(qprompt, tmp_path, monkeypatch):
    def break_it(model, record):
        model = copy.deepcopy(model).requires_grad_(False)
        for parameter in model.heads.parameters():
            parameter.copy_(parameter.roll(1, 0))
        return model

    monkeypatch.setattr(exporter, "prepare", break_it)
    path = tmp_path / "model.pt2"
    with pytest.raises(ParityError, match=r"model\.pt2 was not written .*% of labels agree.*99\.99 %") as caught:
        export(qprompt, path, "torch")
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2.rejected"]


def test_images_of_another_size(qprompt, tmp_path):
    path = tmp_path / "model.pt2"
    export(qprompt, path, "torch", scores=True)
    predictor = queryseg.load(path, device="cpu")
    engine = predictor.engine
    for size in [(64, 64), (40, 72), (20, 30), (130, 256)]:
        assert predictor.predict(torch.zeros(*size, 3, dtype=torch.uint8).numpy()).labels.shape == size
    image = torch.randint(0, 256, (1, 3, 32, 128), dtype=torch.uint8)
    fitted, covered = engine.fit(image)
    assert fitted.shape == (1, 3, 64, 64)
    assert covered == (16, 64)
    assert fitted[0, :, 16:].flatten(1).unique(dim=1).flatten().tolist() == [round(255 * x) for x in engine.record.mean]
    small, covered = engine.fit(image[..., :20])
    assert covered == (32, 20)
    assert torch.equal(small[..., :32, :20], image[..., :20]), "nothing is enlarged"


def test_windows_need_scores_and_room(qprompt, tmp_path):
    path = tmp_path / "model.pt2"
    with pytest.raises(InputError, match="--scores"):
        export(qprompt, path, "torch", protocol=Protocol(window=64, stride=32))
    with pytest.raises(InputError, match="--size 96 96"):
        export(qprompt, path, "torch", protocol=Protocol(window=96, stride=32), scores=True)
    with pytest.raises(InputError, match="several views"):
        export(qprompt, path, "torch", protocol=Protocol(flip=True))
    export(qprompt, path, "torch", protocol=Protocol(window=64, stride=32), scores=True)
    predictor = queryseg.load(path, device="cpu")
    assert predictor.protocol == Protocol(window=64, stride=32)
    assert predictor.predict(torch.zeros(80, 100, 3, dtype=torch.uint8).numpy()).labels.shape == (80, 100)
    predictor.protocol = Protocol(flip=True, scales=(0.5, 1))
    mirrored = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    labels = predictor.predict(mirrored).labels
    assert (predictor.predict(mirrored[:, ::-1]).labels == labels[:, ::-1]).mean() > 0.99


def test_the_record_survives(qprompt, tmp_path):
    path = tmp_path / "model.pt2"
    export(qprompt, path, "torch", protocol=Protocol(short_side=48))
    record = queryseg.load(path, device="cpu").engine.record
    assert ExportRecord.loads(record.dumps(), path).dumps() == record.dumps()
    assert record.protocol == Protocol(short_side=48)
    assert record.weights == exporter.weights_digest(qprompt)
    assert json.loads(record.dumps())["parity"]["passed"] is True
    with pytest.raises(CheckpointError, match="no record"):
        ExportRecord.loads("", path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        ExportRecord.loads('{"classes": ["a"]}', path)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_files_that_are_none(suffix, tmp_path):
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    path = tmp_path / f"model{suffix}"
    with pytest.raises(CheckpointError, match="There is no file"):
        queryseg.load(path)
    path.write_bytes(b"nothing that a runtime knows")
    with pytest.raises(CheckpointError, match="damaged") as caught:
        queryseg.load(path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_asked_for(qprompt, tmp_path):
    for name, format, options, sentence in [
        ("m.onnx", "torch", {}, r"does not end in \.pt2"),
        ("m.pt2", "torch", {"precision": "int8"}, "does not come in int8"),
        ("m.pt2", "torch", {"size": (0, 64)}, "no pixels"),
        ("m.tfl", "tflite", {}, "no format 'tflite'"),
    ]:
        with pytest.raises(InputError, match=sentence):
            export(qprompt, tmp_path / name, format, **options)
    path = tmp_path / "m.pt2"
    export(qprompt, path, "torch")
    with pytest.raises(InputError, match="no scores"):
        queryseg.load(path, device="cpu").predict(torch.zeros(*SIZE, 3, dtype=torch.uint8).numpy(), scores=True)
    with pytest.raises(InputError, match="exported as it computes"):
        queryseg.load(path, precision="bf16-mixed")


def test_a_missing_package_is_one_sentence(qprompt, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(InputError, match=r"pip install 'queryseg\[export\]'"):
        export(qprompt, tmp_path / "m.onnx", "onnx")
