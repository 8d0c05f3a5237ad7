"""What a stage needs besides time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from queryseg.benchmarking.arithmetic import FlopCount
from queryseg.benchmarking.candidate import Frames, Work
from queryseg.benchmarking.live_memory import peak_bytes


@dataclass(frozen=True)
class StageCost:
    """flops: of matrix products, convolutions and attention, 2 per multiply–add; peak_bytes: allocated at once, on top
    of the weights and of what the stage before handed over; parameters: of the modules that run."""

    flops: int
    peak_bytes: int
    parameters: int


def stage_costs(work: Work, frames: Frames, device: torch.device) -> Mapping[str, StageCost]:
    """Stage → cost, in order."""
    costs: dict[str, StageCost] = {}
    state: list[Any] = [frames]
    for stage in work.stages:
        given = state.pop()
        with FlopCount() as count:
            peak = peak_bytes(lambda run=stage.run, given=given: state.append(run(given)), device)  # type: ignore[misc]
        costs[stage.name] = StageCost(int(count.total), peak, stage.parameters)
    return costs
