"""One tiny model per pair of parts, fitted to a few streets; exported once per session.

Random weights would be no test: where no query claims a pixel, every score underflows and rounding decides the label
(eager float64 disagrees with eager float32 there as much as another runtime does), and elsewhere classes nearly tie.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from queryseg.data.class_table import class_table
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.data.streets import DOMAINS, Streets
from queryseg.export import exporter, openvino_format
from queryseg.export.export_record import ExportRecord
from queryseg.export.exported_engine import FORMATS
from queryseg.export.exported_graph import Traced, trace
from queryseg.export.exporter import ExportOptions, export_model
from queryseg.export.onnx_format import onnx_model
from queryseg.objectives import FocalHungarian, FocalSetCriterion
from queryseg.readouts import PerPixel
from queryseg.segmenter import Segmenter
from queryseg.types import IGNORE, Sample, Target

SIZE = (64, 64)
NUM_STEPS, LEARNING_RATE = 100, 4e-3


def _load_pairs() -> Any:
    path = Path(__file__).parents[1] / "contracts" / "test_models.py"
    spec = importlib.util.spec_from_file_location("contract_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODELS = _load_pairs()
MODELS.SMALL["num_layers"] = 3  # one per level: a third less to fit and to export
PAIRS = MODELS.PAIRS
QPROMPT = next(pair for pair in PAIRS if pair[1].endswith(".QueryInjection"))


def name_of(pair: tuple[str, str]) -> str:
    return "+".join(path.rpartition(".")[2] for path in pair)


class Scenes(SegmentationDataset):
    """One street of every domain with the labels of the tests' three classes: ground, anything upright, sky."""

    name = "scenes"
    classes = class_table(list(MODELS.NAMES))

    def __len__(self) -> int:
        return len(DOMAINS)

    def __getitem__(self, index: int) -> Sample:
        street = Streets(DOMAINS[index], 1, 2_000_000, SIZE)[0]
        merged = torch.full((256,), 1, dtype=torch.uint8)
        merged[[0, 1, 9]], merged[10], merged[IGNORE] = 0, 2, IGNORE
        return Sample(street.image, merged[street.label_map.long()], street.name)


@cache
def fitted(pair: tuple[str, str]) -> Segmenter:
    """Knows the scenes by heart."""
    torch.manual_seed(0)
    model: Segmenter = MODELS.compose(MODELS.PIXEL_DECODERS[pair[0]], MODELS.DECODERS[pair[1]])
    for part in model.parts().values():
        part.schedule(1.0)  # EoMT: no masks any more, as in the end
    samples = list(Scenes())
    images = model.normalise(torch.stack([sample.image for sample in samples]))
    labels = torch.stack([sample.label_map for sample in samples]).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=NUM_STEPS)
    criterion = FocalSetCriterion(model.dims, partial(FocalHungarian, num_points=256), num_points=256)
    targets = [Target.semantic(one) for one in labels]
    for _ in range(NUM_STEPS):
        loss, output = images.new_zeros(()), model(images)
        for reading in output.predictions:  # masked attention learns nothing from the last one alone
            scores = model.readout.scores(reading, SIZE, SIZE)
            logits = scores if isinstance(model.readout, PerPixel) else (scores + 1e-6).log()
            loss = loss + F.cross_entropy(logits, labels, ignore_index=IGNORE)
        if "sigmoid_classes" in model.heads.provides:  # saturate in the loss above until all classes tie
            terms = criterion.losses(output, targets, None)  # type: ignore[arg-type]
            loss = torch.stack([criterion.weights[name] * value for name, value in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def export(model: Segmenter, path: Path, format: str, **options: Any) -> Any:
    """With what every test shares; `protocol` and `datasets` go to `export_model`, the rest are options."""
    own = {name: options.pop(name) for name in ("protocol", "datasets", "calibration_data") if name in options}
    own["device"] = "auto" if format == "tensorrt" else "cpu"
    classes = class_table(list(model.dims.class_names))
    protocol = own.pop("protocol", Protocol())
    chosen = ExportOptions(**{"size": SIZE, **options})
    return export_model(model, classes, protocol, format, path, chosen, **own)


_TRACED: dict[object, Any] = {}


def traced(pair: tuple[str, str], model: Segmenter, record: ExportRecord, half: bool = False) -> Traced:
    key = pair, record.precision if half else None
    if key not in _TRACED:
        _TRACED[key] = trace(model, record, half)
    return _TRACED[key]


def plain_onnx(pair: tuple[str, str], traced: Traced, record: ExportRecord) -> Any:
    if pair not in _TRACED:
        _TRACED[pair] = onnx_model(traced, record)
    return _TRACED[pair]


Exported = Callable[..., tuple[Path, Any]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """(pair, format, precision) → file and report, made when first asked for: any batch, with scores."""

    @cache
    def make(pair: tuple[str, str], format: str, precision: str = "fp32") -> tuple[Path, Any]:
        path = tmp_path_factory.mktemp(f"{format}-{precision}") / f"model{FORMATS[format].suffix}"
        options = {"precision": precision, "dynamic_batch": True, "scores": True, "datasets": {"scenes": Scenes()}}
        with pytest.MonkeyPatch.context() as patch:  # what formats and precisions share is most of the time
            patch.setattr(exporter, "trace", partial(traced, pair))
            patch.setattr(openvino_format, "onnx_model", partial(plain_onnx, pair))
            return path, export(fitted(pair), path, format, **options)

    return make


@pytest.fixture(scope="session")
def qprompt() -> Segmenter:
    return fitted(QPROMPT)
