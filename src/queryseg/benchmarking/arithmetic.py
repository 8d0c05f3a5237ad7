"""Floating-point operations: how many a stage needs, and how many the machine does at best."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from queryseg.benchmarking.candidate import Frames, Work
from queryseg.benchmarking.rounds import timed


def count_flops(work: Work, frames: Frames) -> Mapping[str, int]:
    """Stage → FLOPs of its matrix products, convolutions and attention, 2 per multiply–add."""
    counted: dict[str, int] = {}
    state: object = frames
    for stage in work.stages:
        with FlopCounterMode(display=False) as counter:
            state = stage.run(state)
        counted[stage.name] = counter.get_total_flops()
    return counted


SIDE_ON_CPU, SIDE_ELSEWHERE = 2048, 8192
"""Large enough that memory and launches do not matter."""


class MatrixProduct:
    """One product of two n×n matrices, 2·n³ FLOPs: what the machine reaches where nothing but arithmetic counts.

    n: None: by device
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, n: int | None = None) -> None:
        self.device, self.dtype = device, dtype
        self.n = n or (SIDE_ON_CPU if device.type == "cpu" else SIDE_ELSEWHERE)
        self.flops = 2 * self.n**3
        self._a, self._b = (torch.randn(self.n, self.n, device=device).to(dtype) for _ in range(2))

    def __call__(self) -> Mapping[str, float]:
        """A task of `rounds.take_turns`."""
        with torch.no_grad():
            return {"matrix": timed(lambda: self._a @ self._b, self.device)}

    def __str__(self) -> str:
        return f"{self.n}×{self.n} matrix product in {str(self.dtype).removeprefix('torch.')} on {self.device}"
