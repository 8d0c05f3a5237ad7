"""What GRQA leaves behind in a trained model: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_run
import torch

from queryseg.inference.engine import Engine
from queryseg.inference.run_folder import load_weights, read_weights
from queryseg.segmenter import Segmenter, build_segmenter


@pytest.fixture(scope="module")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Segmenter]:
    """QPrompt and QPrompt-R1 as they come back from their saved runs."""
    found = []
    for objectives in (["set"], ["set", "grqa"]):
        out = tmp_path_factory.mktemp("_".join(objectives))
        values = tiny_run.settings(data, validate_every=0) | {"objectives": objectives}
        tiny_run.run(values, out)
        model = build_segmenter(tiny_run.CLASSES, tiny_run.build(values).model)
        load_weights(model, read_weights(out / "model.safetensors"), "run")
        found.append(model.eval())
    return found


def test_the_same_parameters(models: list[Segmenter]) -> None:
    without, grqa = ({name: value.shape for name, value in model.state_dict().items()} for model in models)
    assert without == grqa
    assert any(not torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_the_same_exported_graph(models: list[Segmenter]) -> None:
    """Operation by operation, with every shape and every constant."""
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    without, grqa = (torch.export.export(Engine(model), (images,)) for model in models)
    assert str(without.graph) == str(grqa.graph)
    assert without.graph_signature == grqa.graph_signature
    assert len(list(without.graph.nodes)) > 50
