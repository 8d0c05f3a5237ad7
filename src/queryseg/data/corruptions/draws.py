"""Random numbers that are a function of a key alone."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float32]


class Draws:
    """One stream of random numbers for each key: the same in every process, on every machine, in any order of images.

    NumPy promises to keep SeedSequence and the bits of PCG64, but not what its Generator makes of them (NEP 19), so
    everything is made of those bits here. The key's words are kept apart: ("a", "bc") is another stream than
    ("ab", "c").
    """

    def __init__(self, *key: str | int) -> None:
        words = "".join(f"{len(str(word))}:{word}" for word in key)
        entropy = int.from_bytes(hashlib.sha256(words.encode()).digest(), "big")
        self._source = np.random.PCG64(np.random.SeedSequence(entropy))

    def bits(self, shape: tuple[int, ...]) -> NDArray[np.uint32]:
        """Independent words of 32 bits."""
        num = int(np.prod(shape))
        raw: NDArray[np.uint64] = self._source.random_raw(num // 2 + 1)
        return raw.astype("<u8", copy=False).view("<u4")[:num].reshape(shape)

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Floats:
        """Between low and high, neither of them reached in 0…1: multiples of 2⁻²⁴, half a step aside."""
        share = (self.bits(shape) >> 8).astype(np.float32) + np.float32(0.5)
        result: Floats = np.float32(low) + np.float32((high - low) * 2.0**-24) * share
        return result

    def number(self, low: float, high: float) -> float:
        """One uniform number."""
        return float(self.uniform((1,), low, high)[0])

    def normal(self, shape: tuple[int, ...], mean: float = 0.0, deviation: float = 1.0) -> Floats:
        """Gaussian, by the inverse of its distribution function; never more than 6.4 deviations from the mean."""
        standard = ndtri((self.bits(shape) + 0.5) * 2.0**-32).astype(np.float32)
        result: Floats = np.float32(mean) + np.float32(deviation) * standard
        return result

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """low ≤ number < high, equally likely but for high − low parts in 2³²."""
        scaled = (self.bits(shape).astype(np.uint64) * np.uint64(high - low)) >> np.uint64(32)
        return scaled.astype(np.int64) + low

    def integer(self, low: int, high: int) -> int:
        """One whole number, low ≤ number < high."""
        return int(self.integers(low, high, (1,))[0])
