"""Peaks of known allocations."""

from __future__ import annotations

import torch
from torch import nn

from queryseg.benchmarking.live_memory import LiveMemory, peak_bytes

CPU = torch.device("cpu")


def test_peak_of_known_tensors():
    """4 MB and 8 MB live together, the first is freed, 2 MB come: the peak is 12 MB, and views cost nothing."""

    def run():
        first = torch.empty(1_000_000)
        second = torch.empty(2_000_000)
        second.view(1000, 2000)[:500].t()
        del first
        third = torch.empty(500_000)
        return second, third

    assert peak_bytes(run, CPU) == 12_000_000
    with LiveMemory() as memory:
        kept = run()
        assert memory.live == 10_000_000
        del kept
    assert memory.live == 0
    assert memory.peak == 12_000_000


def test_peak_of_a_network():
    """Linear 256→1024 on 100 rows, GELU, Linear back: hidden (409,600 bytes) and its GELU live together; the input and
    the weights, which were there before, do not count. In place of GELU, ReLU in place needs half."""

    def network(activation):
        return nn.Sequential(nn.Linear(256, 1024), activation, nn.Linear(1024, 256)).eval()

    image = torch.randn(100, 256)
    with torch.no_grad():
        peaks = {}
        for activation in (nn.GELU(), nn.ReLU(inplace=True)):
            model = network(activation)
            peaks[type(activation)] = peak_bytes(lambda model=model: model(image), CPU)
            assert peak_bytes(lambda model=model: model(image), CPU) == peaks[type(activation)], "repeatable"
    hidden, out = 100 * 1024 * 4, 100 * 256 * 4
    assert peaks[nn.GELU] == 2 * hidden
    assert peaks[nn.ReLU] == hidden + out
