"""Textual queries are exported without their text encoder, also inside the trunk and with other classes."""

from __future__ import annotations

import copy
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

import queryseg
from queryseg.backbones import PlainViT
from queryseg.decoders import QueryInjection
from queryseg.export.exported_engine import FORMATS
from queryseg.inference.engine import Engine
from queryseg.pixel_decoders import Identity
from queryseg.queries import TextualQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, Segmenter, build_segmenter
from queryseg.types import ClassChange

from .conftest import MODELS, PAIRS, Scenes, export, fit, fitted

TEXTUAL = next(pair for pair in PAIRS if pair[0].endswith(".TextDeformable"))
FILES = ["onnx", "openvino"]


@cache
def injected() -> Segmenter:
    """Texts join the last block, with one class vector for all."""
    torch.manual_seed(0)
    tower: dict[str, Any] = {"embed_dim": 24, "text_cfg": {}}
    queries = partial(TextualQueries, tower=tower, tower_weights=False, conditioned=False, position=False)
    vit = PlainViT("vit_tiny_patch16_224", image_size=32, options=MODELS.TINY_VIT)
    parts = Parts(vit, Identity, queries, QueryInjection, Mixture, class_vectors="shared")
    return fit(build_segmenter(MODELS.NAMES, parts))


def other_classes() -> Segmenter:
    """Two of the trained classes and, between them, another name for the third: its text, but none of its rows.

    Where a model knows nothing of a class, scores nearly tie, and rounding decides a pixel in 8000; so it learns these
    classes by heart, too, one for another.
    """
    model = copy.deepcopy(fitted(TEXTUAL))
    table = model.queries.embeddings
    assert isinstance(table, torch.Tensor)
    texts = table[[2, 1, 0]]
    model.change_classes(ClassChange(("sky", "house", "road"), (2, None, 0), texts))
    return fit(model.requires_grad_(True))


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("make", [injected, other_classes])
def test_a_file_says_what_its_model_says(
    make: Any, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[format])
    pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    model = make()
    path = tmp_path / f"model{FORMATS[format].suffix}"
    report = export(model, path, format)
    assert report.passed
    assert max(row.num_classes for row in report.rows) > 1, "a comparison that cannot fail"
    engine = queryseg.load(path, device="cpu").engine
    assert engine.class_names == model.dims.class_names
    image = Scenes()[0].image[None]
    with torch.no_grad():
        assert (engine(image) == Engine(model)(image)).float().mean() > 0.9999
