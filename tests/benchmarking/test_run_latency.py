"""Runs timed in turns."""

import torch

from queryseg.benchmarking.run_latency import measure_latencies
from queryseg.data.protocol import Protocol
from queryseg.inference.engine import Engine


def test_every_run_labels_every_image_in_every_round(tiny_qprompt):
    models = {name: tiny_qprompt(patch_size=8).train() for name in ("a", "b")}
    engines = {name: (Engine(model), Protocol()) for name, model in models.items()}
    images = [torch.zeros(3, 24, 40, dtype=torch.uint8), torch.zeros(3, 16, 16, dtype=torch.uint8)]
    turns = []
    found = measure_latencies(engines, images, 3, lambda done, total: turns.append((done, total)))
    assert list(found) == ["a", "b"]
    for latency in found.values():
        assert len(latency.milliseconds) == 3
        assert min(latency.milliseconds) > 0
        low, high = latency.quartiles
        assert low <= latency.median <= high
        assert "2 images of 16×16, 40×24 pixels" in latency.caption
        assert "3 rounds" in latency.caption
    assert turns[-1][0] == turns[-1][1]
    assert all(model.training for model in models.values())
