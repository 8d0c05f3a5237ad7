"""Random choices from one seeded stream, cheap enough to be asked a thousand times per scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def generator(*key: int) -> np.random.Generator:
    """The generator of a key of whole numbers ≥ 0: equal keys give equal draws in every process."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


class Dice:
    """Only uniform draws, so that a scene never depends on the last bits of a transcendental function."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._draws = self._stream(rng)

    @staticmethod
    def _stream(rng: np.random.Generator) -> Iterator[float]:
        while True:  # drawn in blocks: one call per number would cost more than the scene
            yield from rng.random(1024).tolist()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._draws)

    def chance(self, probability: float) -> bool:
        return next(self._draws) < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[int(next(self._draws) * len(items))]

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + int(next(self._draws) * (high - low + 1))
