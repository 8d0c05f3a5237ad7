"""How long a model takes for an image, as a report needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Milliseconds per image.

    milliseconds  one per round, each the mean over the same few images; all models took turns in each round
    includes      what was timed, in words
    machine       in words
    settled       whether times had stopped falling before the first round that counts
    """

    milliseconds: Sequence[float]
    includes: str
    machine: str
    settled: bool = True

    @property
    def median(self) -> float:
        return float(np.median(self.milliseconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.percentile(self.milliseconds, (25, 75))
        return float(low), float(high)

    @property
    def caption(self) -> str:
        """What must stand beside the times."""
        doubt = "" if self.settled else "; times were still falling, repeat on a quieter machine"
        return f"milliseconds: median of {len(self.milliseconds)} rounds on {self.machine}, {self.includes}{doubt}"

    def to_json(self) -> dict[str, Any]:
        return {
            "milliseconds_per_image": self.median,
            "quartiles": list(self.quartiles),
            "rounds": list(self.milliseconds),
            "includes": self.includes,
            "machine": self.machine,
            "settled": self.settled,
        }
