"""Labels that change although the image does not.

Shape legend: H×W pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STEADY = 10
"""A pixel is steady from one frame to the next if none of its colours differs by more than this (of 255)."""


class Flicker:
    """Share of steady pixels whose label changes from one frame to the next, pooled over all pairs of frames.

    stride  looks at every so-many-th pixel in both directions: the share stays the same on average and costs little

    Source: ours. The field warps predictions along optical flow (temporal consistency, Liu et al. 2020), which is too
    heavy beside the model, or asks where labels change although the ground truth does not (video consistency, Miao et
    al. 2021, VC_2); this is the latter with the image's own steadiness in place of the ground truth. It says nothing
    about moving pixels, and a label that changes rightly on a steady pixel (a slow shadow) counts against it.
    """

    def __init__(self, stride: int = 4) -> None:
        assert stride > 0
        self.stride = stride
        self.num_steady = self.num_changed = 0
        self._pixels: npt.NDArray[np.int16] | None = None
        self._labels: npt.NDArray[np.uint8] | None = None

    def update(self, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
        """pixels (H, W, 3) uint8 and labels (H, W) of the next frame; another size than before starts anew."""
        pixels_now = pixels[:: self.stride, :: self.stride].astype(np.int16)
        labels_now = labels[:: self.stride, :: self.stride].copy()
        if self._pixels is not None and self._labels is not None and self._pixels.shape == pixels_now.shape:
            steady = (np.abs(pixels_now - self._pixels) <= STEADY).all(-1)
            self.num_steady += int(steady.sum())
            self.num_changed += int((steady & (labels_now != self._labels)).sum())
        self._pixels, self._labels = pixels_now, labels_now

    @property
    def value(self) -> float:
        """0 (calm) to 1; nan as long as no pixel was steady"""
        return self.num_changed / self.num_steady if self.num_steady else float("nan")
