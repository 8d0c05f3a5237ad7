"""Pixels in, labels out: what runs in production, in validation and in an exported file.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from queryseg.segmenter import Segmenter
from queryseg.types import Output


class Engine(nn.Module):
    """Normalise, pad, backbone, queries, heads, readout and argmax in one graph."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor: ...

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) uint8 RGB → labels (B, H, W) uint8"""
        output, canvas, size = self._run(images)
        return self.model.readout.labels(output.final, canvas, size)

    def scores(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) uint8 RGB → (B, K, H, W) scores, higher is likelier"""
        output, canvas, size = self._run(images)
        return self.model.readout.scores(output.final, canvas, size)

    def _run(self, images: Tensor) -> tuple[Output, tuple[int, int], tuple[int, int]]:
        height, width = images.shape[-2:]
        return self.model(self.model.normalise(images)), self.model.canvas(height, width), (height, width)
