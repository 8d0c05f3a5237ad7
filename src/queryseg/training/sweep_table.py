"""What the arms of a sweep scored, over seeds and validation sets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from statistics import fmean, stdev
from typing import Any

from rich.markup import escape
from rich.table import Table
from scipy.special import stdtrit

from queryseg.data.protocol import Protocol
from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.provenance import LAST_STEP

Scores = dict[str, float]
"""Validation set → mIoU, 0…1, of one run."""

_MAX_PRINTED = 6  # validation sets that fit a terminal; files have all


@dataclass(frozen=True)
class SeedMean:
    """Mean over seeds, and half the width of its interval (nan for fewer than two)."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float], level: float = 0.95) -> SeedMean:
        """Student's t interval of the mean. It speaks of training again with other seeds, not of other test images."""
        if not values:
            return cls(nan, nan)
        if len(values) == 1:
            return cls(values[0], nan)
        factor = float(stdtrit(len(values) - 1, (1 + level) / 2))
        return cls(fmean(values), factor * stdev(values) / sqrt(len(values)))

    def __str__(self) -> str:
        return percent(self.mean) + ("" if isnan(self.half_width) else f" ± {percent(self.half_width)}")

    def to_json(self) -> dict[str, float | None]:
        """nan is no JSON."""
        values = {"mean": self.mean, "half_width": self.half_width}
        return {name: None if isnan(value) else value for name, value in values.items()}


@dataclass(frozen=True)
class SweepTable:
    """One row per arm.

    arms      name → overrides of the recipe
    scores    name → seed → mIoU on every validation set; runs that are not complete are missing
    names     of the validation sets, in order
    seen      those from the training domain; the others are unseen
    seeds     that every arm is to be trained with
    protocol  of the validation
    """

    arms: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Mapping[int, Scores]]
    names: Sequence[str]
    seen: Sequence[str]
    seeds: Sequence[int]
    protocol: Protocol

    @property
    def unseen(self) -> list[str]:
        return [name for name in self.names if name not in self.seen]

    def on(self, arm: str, name: str) -> SeedMean:
        """mIoU of an arm on one validation set."""
        return SeedMean.of([scores[name] for scores in self.scores[arm].values()])

    def on_unseen(self, arm: str) -> SeedMean:
        """The mean over unseen sets is taken within every run, so that the interval is that of the mean."""
        if not self.unseen:
            return SeedMean(nan, nan)
        return SeedMean.of([fmean(scores[name] for name in self.unseen) for scores in self.scores[arm].values()])

    def to_csv(self) -> str:
        """Scores in 0…1 with all their digits; empty where there is none."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        columns = [*(f"miou/{name}" for name in self.names), "mean_unseen"]
        writer.writerow(["arm", "runs", *(title for column in columns for title in (column, f"{column}/half_width"))])
        for arm in self.arms:
            means = [*(self.on(arm, name) for name in self.names), self.on_unseen(arm)]
            cells = [value for mean in means for value in (mean.mean, mean.half_width)]
            writer.writerow([arm, len(self.scores[arm]), *("" if isnan(value) else value for value in cells)])
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Plain values; scores in 0…1."""
        return {
            "protocol": str(self.protocol),
            "checkpoint": LAST_STEP,
            "interval": "95 %, Student's t over seeds",
            "seeds": list(self.seeds),
            "seen": list(self.seen),
            "unseen": self.unseen,
            "arms": {
                arm: {
                    "overrides": dict(overrides),
                    "mean_iou": {name: self.on(arm, name).to_json() for name in self.names},
                    "mean_iou_unseen": self.on_unseen(arm).to_json(),
                    "runs": {str(seed): scores for seed, scores in self.scores[arm].items()},
                }
                for arm, overrides in self.arms.items()
            },
        }

    def __rich__(self) -> Table:
        several = len(self.seeds) > 1
        names = self.names if len(self.names) <= _MAX_PRINTED else list(self.seen)
        note = "" if names is self.names else f"; each of {len(self.names)} sets: sweep.csv"
        table = Table(
            title="mIoU in %" + (", mean ± half of its 95 % interval over seeds" if several else ""),
            caption=f"protocol: {self.protocol}; checkpoint: {LAST_STEP}{note}",
            min_width=60,
        )
        table.add_column("arm")
        table.add_column("runs", justify="right")
        for name in names:
            table.add_column(escape(name), justify="right")
        with_mean = len(self.unseen) > 1
        if with_mean:
            table.add_column("mean unseen", justify="right")
        for arm in self.arms:
            means = [*(self.on(arm, name) for name in names), *([self.on_unseen(arm)] if with_mean else [])]
            table.add_row(escape(arm), f"{len(self.scores[arm])}/{len(self.seeds)}", *map(str, means))
        return table
