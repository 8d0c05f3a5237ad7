"""Means between two rows of the log, and where the time goes.

Shape legend: N names of numbers that steps report.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from queryseg.data.batch import Batch

PACE = ("images_per_second", "seconds_per_step", "loader_share")
"""Columns of the log that depend on the machine."""


class Meter:
    """Sums what steps report until a row is written.

    totals (2, N): sums and how many were summed. They stay on the device: reading a number costs a synchronisation.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names, self.device = list(names), device
        self._reset()

    def _reset(self) -> None:
        self.totals = torch.zeros(2, len(self.names), device=self.device)
        self.images, self.steps, self.seconds, self.waiting = 0, 0, 0.0, 0.0
        self._since: float | None = None

    def table(self, reports: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """(2, N) sums and counts of scalars by name; a report may leave names out. Ready to be added over processes."""
        found = [[report[name].detach().float() for report in reports if name in report] for name in self.names]
        sums = [torch.stack(values).sum() if values else self.totals.new_zeros(()) for values in found]
        return torch.stack([torch.stack(sums), self.totals.new_tensor([len(values) for values in found])])

    def add(self, table: Tensor) -> None:
        self.totals = self.totals + table

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

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Means of what was reported, and the pace; loader_share is the part of the time that was spent waiting for
        data. Begins anew."""
        sums, counts = self.totals.tolist()
        means = {name: total / count for name, total, count in zip(self.names, sums, counts, strict=True) if count}
        seconds = max(self.seconds, 1e-9)
        pace = (self.images / seconds, self.seconds / max(self.steps, 1), self.waiting / seconds)
        self._reset()
        return means, dict(zip(PACE, pace, strict=True))
