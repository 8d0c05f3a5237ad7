"""Pixels in, labels or segments out: what runs in production, in validation and in an exported file.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from queryseg.contracts import Readout
from queryseg.errors import InputError, reason_of
from queryseg.inference.precision import InferencePrecision, half_precision
from queryseg.segmenter import Segmenter
from queryseg.types import Prediction

_MOST_GRAPHS = 128
Size = tuple[int, int]
Reading = tuple[Prediction, Size, Size]
"""What queries said, the canvas that their masks cover in pixels of the size asked for, and that size."""


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


@runtime_checkable
class SegmentEngine(SegmentationEngine, Protocol):
    """An engine that also shows what its queries said, from which segments are read."""

    @property
    def readout(self) -> Readout:
        """Reads segments of what `read` gives."""
        ...

    def read(self, images: Tensor, size: Size | None = None) -> Reading:
        """images (B, 3, H, W) uint8 RGB → see `Reading`."""
        ...


class Engine(nn.Module):
    """Normalise, pad, backbone, queries, heads, readout and argmax in one graph."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor, size: Size | None = None) -> Tensor: ...

    def __init__(self, model: Segmenter, precision: InferencePrecision = "fp32") -> None:
        super().__init__()
        self.model = model
        self.precision: InferencePrecision = precision

    @property
    def device(self) -> torch.device:
        return self.model.mean.device

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.model.dims.class_names

    @property
    def readout(self) -> Readout:
        return self.model.readout

    def forward(self, images: Tensor, size: Size | None = None) -> Tensor:
        """images (B, 3, H, W) uint8 RGB → labels (B, *size) uint8; size: None is the images' own. Masks go from their
        own grid straight to `size`."""
        return self.model.readout.labels(*self.read(images, size))

    def find(self, images: Tensor, size: Size | None = None) -> Finding:
        """See `SegmentationEngine`."""
        return self.finding(self.read(images, size))

    def finding(self, reading: Reading) -> Finding:
        """What `read` has found, to be enlarged later."""
        readout = self.model.readout
        return Finding(partial(readout.labels, *reading), partial(readout.scores, *reading))

    def read(self, images: Tensor, size: Size | None = None) -> Reading:
        """The reading, the canvas that its masks cover in pixels of `size` instead of shown pixels, and `size`."""
        shown = (images.shape[-2], images.shape[-1])
        size = shown if size is None else size
        with half_precision(self.precision, self.device):
            final = in_full_precision(self.model(self.model.normalise(images)).final)
        return final, self.covered(shown, size), size

    def covered(self, shown: Size, size: Size) -> Size:
        """What the masks of an image that is shown at one size cover, in pixels of labels of another."""
        canvas = self.model.canvas(*shown)
        if size is shown or size == shown:
            return canvas
        return round(canvas[0] * size[0] / shown[0]), round(canvas[1] * size[1] / shown[1])


class CompiledEngine:
    """An `Engine` whose graph `torch.compile` turns into machine code, once per image size (and batch): whole, without
    breaks, with fixed shapes. On a GPU the code is recorded as a CUDA graph and replayed.

    backend  of `torch.compile`

    The first image of every size takes seconds to minutes; torch's cache on the disk makes later processes faster.

    Raises: InputError in the first call if the model or this machine does not allow it (a C++ compiler is needed)
    """

    def __init__(self, engine: Engine, backend: str = "inductor") -> None:
        self.engine = engine
        raise_recompile_limit()
        mode = "reduce-overhead" if engine.device.type == "cuda" else None
        self._labels = torch.compile(engine.forward, fullgraph=True, dynamic=False, backend=backend, mode=mode)
        # no CUDA graph, which would write the next reading over one that is still to be enlarged
        self._reading = torch.compile(engine.read, fullgraph=True, dynamic=False, backend=backend)

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.engine.class_names

    @property
    def readout(self) -> Readout:
        return self.engine.readout

    def __call__(self, images: Tensor, size: Size | None = None) -> Tensor:
        return _compiled(self._labels, images, size)

    def read(self, images: Tensor, size: Size | None = None) -> Reading:
        """See `Engine`."""
        return _compiled(self._reading, images, size)

    def find(self, images: Tensor, size: Size | None = None) -> Finding:
        """See `SegmentationEngine`; the model is compiled, the readout runs as it is."""
        return self.engine.finding(self.read(images, size))


T = TypeVar("T")


def _compiled(function: Callable[[Tensor, Size | None], T], images: Tensor, size: Size | None) -> T:
    try:
        return function(images, size)
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
        raise InputError(
            f"This model cannot be compiled here ({reason_of(error)}); predict without compile, or export it."
        ) from error


def raise_recompile_limit() -> None:
    """Models and sizes share code. Behind its limit of 8, torch refuses what comes next, or runs it uncompiled in
    silence."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_GRAPHS)


def in_full_precision(reading: Prediction) -> Prediction:
    """Scores in half precision would tie, and a tie falls to the class with the lower number."""
    masks, scores = reading.mask_logits, reading.class_scores
    if masks.dtype not in (torch.float16, torch.bfloat16):
        return reading
    return replace(reading, mask_logits=masks.float(), class_scores=scores.float())
