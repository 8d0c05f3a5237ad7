"""One tiny model per pair of parts, turned up so that it predicts several classes; exported once per session."""

from __future__ import annotations

import importlib.util
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.data.protocol import Protocol
from queryseg.data.streets import Streets
from queryseg.export.exporter import ExportOptions, export_model
from queryseg.segmenter import Segmenter

SIZE = (64, 64)


def _load_pairs() -> Any:
    path = Path(__file__).parents[1] / "contracts" / "test_models.py"
    spec = importlib.util.spec_from_file_location("contract_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODELS = _load_pairs()
PAIRS = MODELS.PAIRS


@cache
def lively(pair: tuple[str, str]) -> Segmenter:
    """With answers that differ from place to place: weights are drawn until two classes are seen on a street, and every
    pixel is claimed by some query (where none does, classes differ by less than runtimes' rounding)."""
    model: Segmenter = MODELS.compose(MODELS.PIXEL_DECODERS[pair[0]], MODELS.DECODERS[pair[1]]).eval()
    street = Streets("clear", 1, 2_000_000, SIZE)[0].image[None]
    for std, seed in product((0.2, 0.4, 0.7), range(25)):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.heads.parameters():
                torch.nn.init.normal_(parameter, std=std)
            for parameter in model.queries.parameters():
                torch.nn.init.normal_(parameter, std=2.0)
            scores = model.readout.scores(model(model.normalise(street)).final, SIZE, SIZE)
        classes = scores.argmax(1).flatten().bincount().gt(100).sum()
        if classes > 1 and scores.abs().amax(1).min() > 3e-4:
            return model
    raise AssertionError(f"no weights of {pair} predict two classes")


def export(model: Segmenter, path: Path, format: str, **options: Any) -> Any:
    """With what every test shares; `protocol` and `datasets` go to `export_model`, the rest are options."""
    own = {name: options.pop(name) for name in ("protocol", "datasets") if name in options}
    classes = class_table(list(model.dims.class_names))
    protocol = own.pop("protocol", Protocol())
    chosen = ExportOptions(**{"size": SIZE, **options})
    return export_model(model, classes, protocol, format, path, chosen, device="cpu", **own)


@pytest.fixture(scope="session")
def qprompt() -> Segmenter:
    return lively(next(pair for pair in PAIRS if pair[1].endswith(".QueryInjection")))
