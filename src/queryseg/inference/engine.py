"""Pixels in, labels out: what runs in production, in validation and in an exported file.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from queryseg.segmenter import Segmenter
from queryseg.types import Prediction

Size = tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """What an engine says of images, before it is enlarged to the size asked for: that takes about as long as a small
    model, so a pipeline does it while the model looks at the next image.

    labels  () → (B, H, W) uint8
    scores  () → (B, K, H, W), higher is likelier
    """

    labels: Callable[[], Tensor]
    scores: Callable[[], Tensor]


class SegmentationEngine(Protocol):
    """What `Predictor` and the windows need: the `Engine` of a model, or one that runs an exported file."""

    @property
    def device(self) -> torch.device:
        """Where images should be."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """What labels mean, in their order."""
        ...

    def __call__(self, images: Tensor, size: Size | None = None) -> Tensor:
        """images (B, 3, H, W) uint8 RGB → labels (B, *size) uint8; size: None is the images' own."""
        ...

    def find(self, images: Tensor, size: Size | None = None) -> Finding:
        """images (B, 3, H, W) uint8 RGB → labels and scores at `size`, whichever is asked for."""
        ...


class Engine(nn.Module):
    """Normalise, pad, backbone, queries, heads, readout and argmax in one graph."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor, size: Size | None = None) -> Tensor: ...

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    @property
    def device(self) -> torch.device:
        return self.model.mean.device

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.model.dims.class_names

    def forward(self, images: Tensor, size: Size | None = None) -> Tensor:
        """images (B, 3, H, W) uint8 RGB → labels (B, *size) uint8; size: None is the images' own. Masks go from their
        own grid straight to `size`."""
        return self.find(images, size).labels()

    def find(self, images: Tensor, size: Size | None = None) -> Finding:
        """See `SegmentationEngine`."""
        reading, readout = self._run(images, size), self.model.readout
        return Finding(partial(readout.labels, *reading), partial(readout.scores, *reading))

    def _run(self, images: Tensor, size: Size | None) -> tuple[Prediction, Size, Size]:
        """The reading, the canvas that its masks cover in pixels of `size` instead of shown pixels, and `size`."""
        height, width = images.shape[-2:]
        canvas = self.model.canvas(height, width)
        final = self.model(self.model.normalise(images)).final
        if size is None or size == (height, width):
            return final, canvas, (height, width)
        return final, (round(canvas[0] * size[0] / height), round(canvas[1] * size[1] / width)), size
