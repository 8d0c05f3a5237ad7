"""Every format keeps what every model says; models are those of tests/contracts, found without being listed."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import queryseg
from queryseg import adapters, loading
from queryseg.contracts import Adapter
from queryseg.data.class_table import class_table
from queryseg.data.streets import Streets
from queryseg.errors import InputError
from queryseg.export.exported_engine import FORMATS, suffixes
from queryseg.export.exported_graph import prepare
from queryseg.export.parity_gate import ParityError
from queryseg.inference.engine import Engine
from queryseg.inference.predictor import Predictor
from queryseg.readouts import Mixture

from .conftest import PAIRS, QPROMPT, SIZE, export, fitted, name_of

NEEDED = {"onnx": ["onnxscript", "onnxruntime"], "openvino": ["onnxscript", "openvino"], "torch": []}
KEPT = [
    ("onnx", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("torch", "fp32"),
]


def need(format: str, precision: str = "fp32") -> None:
    for package in NEEDED[format]:
        pytest.importorskip(package)
    if (format, precision) == ("openvino", "bf16"):
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("this processor does not compute in bf16")


@pytest.mark.parametrize(("format", "precision"), KEPT)
@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
def test_a_file_predicts_what_its_model_predicts(pair, format, precision, exported):
    need(format, precision)
    if precision == "bf16" and pair[1].endswith(".SelectedPixels"):
        pytest.skip("OpenVINO chooses pixels in bf16, too: other queries, not promised; the gate decides file by file")
    path, report = exported(pair, format, precision)
    assert report.passed
    assert max(row.num_classes for row in report.rows) > 1, "a comparison that cannot fail"
    if precision == "fp32":
        assert all(0 <= row.max_score_error < 1e-3 for row in report.rows)
    else:
        assert report.rows[0].max_score_error > 1e-4, "half precision rounds"

    predictor = queryseg.load(path, device="cpu")
    record = predictor.engine.record
    assert (record.format, record.precision, record.size) == (format, precision, SIZE)
    assert record.classes.names == fitted(pair).dims.class_names
    assert record.parity["passed"]
    assert {file.suffix for file in path.parent.iterdir()} == {path.suffix, *([".bin"] if format == "openvino" else [])}

    images = torch.stack([Streets(domain, 1, 2_000_000, SIZE)[0].image for domain in ("clear", "fog", "night")])
    expected = Engine(fitted(pair))
    with torch.no_grad():
        for batch in (images[:1], images[:2], images):
            same = predictor.engine(batch) == expected(batch)
            assert same.float().mean() > (0.9999 if precision == "fp32" else 0.995)
    assert predictor.predict(images[0].permute(1, 2, 0).numpy()).labels.dtype == np.uint8


class Faint(Mixture):
    """Reads masks that no query claims: every logit lies 25 lower."""

    def scores(self, prediction, canvas, size):
        masks = prediction.mask_logits.clamp(max=8) - 25
        return super().scores(replace(prediction, mask_logits=masks), canvas, size)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_where_no_query_claims_a_pixel_labels_stay(format, tmp_path):
    """ONNX Runtime's own sigmoid is zero below −18, which made all labels of such pixels the first class."""
    need(format)
    model = copy.deepcopy(fitted(QPROMPT))
    model.readout = Faint()
    report = export(model, tmp_path / f"model{FORMATS[format].suffix}", format)
    assert max(row.num_classes for row in report.rows) > 1
    assert min(row.agreement for row in report.rows) > 0.9999


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
def test_dynamic_size(qprompt, format, tmp_path):
    """The gate tries a second size; a third one, no multiple of the patch, is filled up and cut."""
    need(format)
    path = tmp_path / f"model{FORMATS[format].suffix}"
    report = export(qprompt, path, format, dynamic_size=True, scores=True)
    assert [row.name.partition(" at ")[2] for row in report.rows] == [""] * 6 + ["47×81"] * 6
    engine, own = queryseg.load(path, device="cpu").engine, Engine(qprompt)
    assert engine.record.multiple == (16, 16)
    with torch.no_grad():
        for size in [(32, 32), (64, 64), (80, 48), (35, 100)]:  # the first is the position table's own
            image = Streets("fog", 1, 7, size)[0].image[None]
            fitted_image, covered = engine.fit(image)
            expected = own(fitted_image)[:, : covered[0], : covered[1]]
            assert covered == size
            assert (engine(image) == expected).float().mean() > 0.9999


class LowRank(torch.nn.Module):
    """A linear layer and a low-rank change of it."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.down = torch.nn.Parameter(torch.randn(2, linear.in_features) / 2)
        self.up = torch.nn.Parameter(torch.randn(linear.out_features, 2))

    def forward(self, x):
        return self.linear(x) + x @ self.down.T @ self.up.T


class LowRankAdapter(Adapter):
    """LoRA on the first block's last layer; `share` of the change is folded in: 1, or the merge is wrong."""

    def __init__(self, share=1.0):
        super().__init__()
        self.share = share

    def attach(self, backbone):
        backbone.blocks[0].mlp.fc2 = LowRank(backbone.blocks[0].mlp.fc2)

    def merge(self, backbone):
        adapted = backbone.blocks[0].mlp.fc2
        adapted.linear.weight += self.share * adapted.up @ adapted.down
        backbone.blocks[0].mlp.fc2 = adapted.linear


def test_adapters_are_merged(tmp_path):
    """The copy that is exported has a merged adapter and says the same; the model keeps its own; the gate refuses a
    merge that changes what the model says."""
    plain, file = fitted(QPROMPT), tmp_path / "model.pt2"
    image = Streets("clear", 1, 2_000_000, SIZE)[0].image[None]
    for share in (1.0, 0.5):
        torch.manual_seed(0)
        model = copy.deepcopy(plain)
        model.backbone.attach(LowRankAdapter(share))
        model.requires_grad_(False)
        unmerged = Engine(model)(image)
        assert (Engine(plain)(image) != unmerged).float().mean() > 0.01, "the adapter matters"
        if share != 1:
            with pytest.raises(ParityError):
                export(model, tmp_path / "wrong.pt2", "torch")
            continue
        export(model, file, "torch")
        assert (queryseg.load(file, device="cpu").engine(image) == unmerged).float().mean() > 0.9999
        assert isinstance(model.backbone.blocks[0].mlp.fc2, LowRank)
        merged = prepare(model, queryseg.load(file).engine.record)
        assert not any(isinstance(module, LowRank) for module in merged.modules())


@pytest.mark.parametrize("name", ["Frozen", "Rein", "SoMA", "FADA", "LoRA"])
@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_every_adapter_passes_the_gate(name, format, tmp_path):
    """Moved away from where it begins, merged where it merges; the gate compares with the unmerged model."""
    need(format)
    torch.manual_seed(0)
    model = copy.deepcopy(fitted(QPROMPT))
    small = {"rank": 4} if name in ("SoMA", "LoRA") else {"num_tokens": 5} if name != "Frozen" else {}
    adapter = getattr(adapters, name)(model.backbone.dims, **small, **({"link": False} if name == "Rein" else {}))
    image = Streets("clear", 1, 2_000_000, SIZE)[0].image[None]
    plain = Engine(model)(image)
    model.backbone.attach(adapter)
    with torch.no_grad():
        for parameter in model.backbone.brought():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    model.requires_grad_(False)
    file = tmp_path / f"model.{'pt2' if format == 'torch' else 'onnx'}"
    assert export(model, file, format).passed
    assert model.backbone.adapter is adapter
    unmerged = Engine(model)(image)
    assert (queryseg.load(file, device="cpu").engine(image) == unmerged).float().mean() > 0.9999
    assert (unmerged != plain).any() == (name != "Frozen"), "the adapter matters"
    merged = prepare(model, queryseg.load(file, device="cpu").engine.record)
    if name in ("Frozen", "SoMA", "LoRA"):
        assert merged.state_dict().keys() == fitted(QPROMPT).state_dict().keys()


def test_a_predictor_s_strips_are_not_exported(qprompt, tmp_path):
    """A graph holds all masks at once, whoever used the model before; the model keeps its setting."""
    model = copy.deepcopy(qprompt)
    Predictor(model, class_table(list(model.dims.class_names)), device="cpu", strip_tokens=1)
    record = export(qprompt, tmp_path / "model.pt2", "torch") and queryseg.load(tmp_path / "model.pt2").engine.record
    assert prepare(model, record).decoder.strip_tokens is None
    assert model.decoder.strip_tokens == 1


def test_one_list_of_suffixes():
    assert set(suffixes()) == set(loading.EXPORTED)


def test_fp16_halves_the_weights(exported):
    """Here computed in half precision only where the processor can."""
    need("openvino")
    path, report = exported(QPROMPT, "openvino", "fp16")
    assert report.passed
    assert report.rows[0].max_score_error > 1e-4, "weights are rounded"
    full = exported(QPROMPT, "openvino", "fp32")[0].with_suffix(".bin").stat().st_size
    assert path.with_suffix(".bin").stat().st_size < 0.6 * full


def test_archives_keep_bf16_inside(exported):
    path, report = exported(QPROMPT, "torch", "bf16")
    assert report.passed
    assert report.rows[0].max_score_error > 1e-4, "half precision rounds"
    assert queryseg.load(path, device="cpu").engine.record.precision == "bf16"


def test_scores_only_if_asked_for(qprompt, tmp_path):
    path = tmp_path / "model.pt2"
    export(qprompt, path, "torch")
    predictor = queryseg.load(path)
    labels = predictor.predict(np.zeros((*SIZE, 3), np.uint8)).labels
    assert labels.dtype == np.uint8
    assert labels.shape == SIZE
    expected = Predictor(qprompt, class_table(list(qprompt.dims.class_names)), device="cpu")
    assert (expected.predict(np.zeros((*SIZE, 3), np.uint8)).labels == labels).mean() > 0.9999
    with pytest.raises(InputError, match="no scores"):
        predictor.predict(np.zeros((*SIZE, 3), np.uint8), scores=True)
