"""Means between two rows of the log, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from queryseg.data.batch import Batch

PACE = ("images_per_second", "seconds_per_step", "loader_share")
"""Columns of the log that depend on the machine."""


class Meter:
    """Sums what steps report until a row is written. Sums stay on the device: reading one costs a synchronisation."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.images, self.steps, self.seconds, self.waiting = 0, 0, 0.0, 0.0
        self._since: float | None = None

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Scalars of one forward pass or one step."""
        for name, value in values.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def start(self) -> None:
        """The clock runs from here to `stop`: steps count, validations and saving do not."""
        self._since = time.perf_counter()

    def stop(self, images: int) -> None:
        assert self._since is not None
        self.seconds += time.perf_counter() - self._since
        self.images += images
        self.steps += 1
        self._since = None

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, with the time that it was waited for."""
        asked = time.perf_counter()
        batch = next(batches)
        self.waiting += time.perf_counter() - asked
        return batch

    def take(self, names: Sequence[str], device: torch.device) -> tuple[Tensor, dict[str, float]]:
        """Begins anew. Returns sums and counts of `names` (2, N), which several processes may add up, and the pace;
        loader_share is the part of the time that was spent waiting for data."""
        zero = torch.zeros((), device=device)
        sums = torch.stack([self.sums.get(name, zero) for name in names])
        counts = torch.tensor([float(self.counts.get(name, 0)) for name in names], device=device)
        seconds = max(self.seconds, 1e-9)
        pace = (self.images / seconds, self.seconds / max(self.steps, 1), self.waiting / seconds)
        self.__init__()  # type: ignore[misc]
        return torch.stack([sums, counts]), dict(zip(PACE, pace, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Without the clock: a row after an interruption times only what came after it."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts = dict(state["counts"])
