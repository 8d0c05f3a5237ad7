"""Shows an image to a model as a protocol says: resized or not, whole or in sliding windows.

Shape legend: K classes, H×W pixels of the image as given, h×w as shown to the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from queryseg.data.protocol import Protocol
from queryseg.inference.engine import Engine
from queryseg.types import Prediction

PIXELS_PER_PASS = 2**20
"""Windows share a forward pass up to so many pixels (four windows of 512): bounds memory, whatever the image's size."""

Box = tuple[int, int, int, int]
Size = tuple[int, int]


def window_boxes(height: int, width: int, window: int, stride: int) -> list[Box]:
    """(top, left, bottom, right) of square windows that cover an image, row by row, all of one size.

    The last window of a row or column is shifted back inside; a side shorter than the window is taken whole.
    Source: mmsegmentation's slide inference, protocols.md §6 (window 512, stride 341).
    """
    tops, lefts = _starts(height, window, stride), _starts(width, window, stride)
    return [(top, left, min(top + window, height), min(left + window, width)) for top in tops for left in lefts]


def _starts(length: int, window: int, stride: int) -> list[int]:
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def shown_size(size: Size, protocol: Protocol) -> Size:
    """(h, w) at which an image of size (H, W) is shown: the protocol's short side, its own ratio (rounded)."""
    if protocol.short_side is None:
        return size
    scale = protocol.short_side / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def show(image: Tensor, protocol: Protocol) -> Tensor:
    """(3, H, W) uint8 → (3, h, w) uint8; bilinear with antialiasing, as training images are resized."""
    size = shown_size((image.shape[1], image.shape[2]), protocol)
    if size == image.shape[1:]:
        return image
    resized: Tensor = resize(image, list(size), InterpolationMode.BILINEAR, antialias=True)
    return resized


def sliding_scores(engine: Engine, image: Tensor, window: int, stride: int) -> Tensor:
    """(3, h, w) uint8 → (K, h, w) float32: scores of all windows, averaged where they overlap."""
    height, width = image.shape[-2:]
    boxes = window_boxes(height, width, window, stride)
    num_together = max(1, PIXELS_PER_PASS // (min(window, height) * min(window, width)))
    total: Tensor | None = None
    count = torch.zeros(height, width, device=image.device)
    for start in range(0, len(boxes), num_together):
        part = boxes[start : start + num_together]
        scores = engine.scores(torch.stack([image[:, t:b, le:r] for t, le, b, r in part])).float()
        if total is None:
            # classes beside each other in memory, as readouts give them: every later step reads neighbours
            total = scores.new_zeros(height, width, scores.shape[1]).permute(2, 0, 1)
        for (top, left, bottom, right), window_scores in zip(part, scores, strict=True):
            total[:, top:bottom, left:right] += window_scores
            count[top:bottom, left:right] += 1
    assert total is not None, "an image has at least one window"
    return total.div_(count)


@dataclass(frozen=True)
class Finding:
    """What the model says about an image, before it is enlarged to the image's size: that takes about as long as a
    small model, so a pipeline does it while the model looks at the next image.

    found   the reading of a whole image, or the averaged scores (K, h, w) of windows
    canvas  of a whole image: what its masks cover, in pixels of `size`
    size    (H, W) of the labels
    """

    found: Prediction | Tensor
    canvas: Size
    size: Size

    def scores(self, engine: Engine) -> Tensor:
        """(K, H, W)"""
        if isinstance(self.found, Tensor):
            return _resized(self.found, self.size)
        return engine.model.readout.scores(self.found, self.canvas, self.size)[0]

    def labels(self, engine: Engine) -> Tensor:
        """(H, W) uint8"""
        if isinstance(self.found, Tensor):
            return self.scores(engine).argmax(0).byte()
        return engine.model.readout.labels(self.found, self.canvas, self.size)[0]


def find(engine: Engine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Finding:
    """The model's part of `protocol_scores`; the same arguments."""
    size = _own_size(image) if size is None else size
    shown = show(image, protocol).to(_device(engine))
    if protocol.window is None:
        return Finding(*_whole(engine, shown, size), size)
    return Finding(sliding_scores(engine, shown, protocol.window, protocol.stride), size, size)


def protocol_scores(engine: Engine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Tensor:
    """(K, H, W) scores of one image, at the size of its label.

    image  (3, H, W) uint8 RGB
    size   (H, W) of the label; None: the image's own

    Scores are enlarged once: those of a whole image go from the masks' own grid straight to `size`. Those of windows
    are averaged at the shown size first, as in the field, and resized only if `size` differs.
    """
    return find(engine, image, protocol, size).scores(engine)


def protocol_labels(engine: Engine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Tensor:
    """(H, W) uint8: the likeliest class of every pixel, see `protocol_scores`."""
    size = _own_size(image) if size is None else size
    if protocol.window is None and shown_size(_own_size(image), protocol) == size:
        return engine(show(image, protocol).to(_device(engine))[None])[0]
    return find(engine, image, protocol, size).labels(engine)


def _whole(engine: Engine, shown: Tensor, size: Size) -> tuple[Prediction, Size]:
    """The reading of a shown image, and the canvas that its masks cover in pixels of `size` instead of shown pixels."""
    model = engine.model
    height, width = _own_size(shown)
    canvas = model.canvas(height, width)
    stretched = (round(canvas[0] * size[0] / height), round(canvas[1] * size[1] / width))
    return model(model.normalise(shown[None])).final, stretched


def _resized(scores: Tensor, size: Size) -> Tensor:
    """(K, h, w) → (K, H, W)"""
    if scores.shape[1:] == size:
        return scores
    return F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]


def _own_size(image: Tensor) -> Size:
    return image.shape[1], image.shape[2]


def _device(engine: Engine) -> torch.device:
    return engine.model.mean.device
