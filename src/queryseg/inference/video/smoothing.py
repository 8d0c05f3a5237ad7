"""Calms scores from frame to frame.

Shape legend: K classes, H×W pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from queryseg.errors import InputError

CUT = 30.0
"""A frame whose pixels differ by more than this on average (of 255) from the one before begins another scene. Ours; of
the kind and size of PySceneDetect's content detector (27 in HSV)."""

_GRID = 8  # a cut changes the whole picture: every 8th pixel in both directions tells


class ScoreSmoothing:
    """Exponential moving average of scores over frames: s_t = w · s_(t−1) + (1 − w) · x_t, s_0 = x_0.

    weight  w of the past, 0 ≤ w < 1; 0.5 halves a frame's influence with every further frame

    The past is forgotten at a cut and where the size changes. Scores stay at their pixel: nothing is warped along the
    motion of the scene, so a heavy weight leaves trails behind fast objects.
    """

    def __init__(self, weight: float) -> None:
        if not 0 <= weight < 1:
            raise InputError(f"Smoothing is {weight:g}; give the weight of the past, 0 (none) to below 1 (e.g. 0.5).")
        self.weight = weight
        self._scores: Tensor | None = None
        self._seen: npt.NDArray[np.int16] | None = None

    def __call__(self, scores: Tensor, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """scores (K, H, W) of a frame with `pixels` (H, W, 3) → (K, H, W), valid until the next call"""
        seen = pixels[::_GRID, ::_GRID].astype(np.int16)
        goes_on = (
            self._scores is not None
            and self._seen is not None
            and self._scores.shape == scores.shape
            and self._seen.shape == seen.shape
            and float(np.abs(seen - self._seen).mean()) <= CUT
        )
        self._seen = seen
        if goes_on and self._scores is not None:
            self._scores.lerp_(scores, 1 - self.weight)
        else:
            self._scores = scores.clone()
        return self._scores
