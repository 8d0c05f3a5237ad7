"""Shows an image to a model as a protocol says: resized or not, whole or in sliding windows.

Shape legend: K classes, H×W pixels of the image as given, h×w as shown to the model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from queryseg.data.protocol import Protocol
from queryseg.inference.engine import Finding, SegmentationEngine, Size
from queryseg.inference.host_copies import upload

PIXELS_PER_PASS = 2**20
"""Windows share a forward pass up to so many pixels (four windows of 512): bounds memory, whatever the image's size."""

Box = tuple[int, int, int, int]


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
    """(…, 3, H, W) uint8 → (…, 3, h, w) uint8, see `resized`."""
    size = shown_size((image.shape[-2], image.shape[-1]), protocol)
    return image if size == image.shape[-2:] else resized(image, size)


def resized(image: Tensor, size: Size) -> Tensor:
    """(…, 3, H, W) uint8 → (…, 3, *size) uint8, as training images are resized: bilinear with antialiasing."""
    result: Tensor = resize(image, list(size), InterpolationMode.BILINEAR, antialias=True)
    return result


def sliding_scores(engine: SegmentationEngine, image: Tensor, window: int, stride: int) -> Tensor:
    """(3, h, w) uint8 → (K, h, w) float32: scores of all windows, averaged where they overlap."""
    height, width = image.shape[-2:]
    boxes = window_boxes(height, width, window, stride)
    num_together = max(1, PIXELS_PER_PASS // (min(window, height) * min(window, width)))
    total: Tensor | None = None
    count = torch.zeros(height, width, device=image.device)
    for start in range(0, len(boxes), num_together):
        part = boxes[start : start + num_together]
        scores = engine.find(torch.stack([image[:, t:b, le:r] for t, le, b, r in part])).scores().float()
        if total is None:
            # classes beside each other in memory, as readouts give them: every later step reads neighbours
            total = scores.new_zeros(height, width, scores.shape[1]).permute(2, 0, 1)
        for (top, left, bottom, right), window_scores in zip(part, scores, strict=True):
            total[:, top:bottom, left:right] += window_scores
            count[top:bottom, left:right] += 1
    assert total is not None, "an image has at least one window"
    return total.div_(count)


def find(engine: SegmentationEngine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Finding:
    """What the engine says of one image, shown as the protocol says; labels (1, H, W), scores (1, K, H, W).

    image  (3, H, W) uint8 RGB
    size   (H, W) of the label; None: the image's own

    Scores are enlarged once: those of a whole image go from the masks' own grid straight to `size`. Those of windows
    are averaged at the shown size first, as in the field, and resized only if `size` differs.
    """
    size = _own_size(image) if size is None else size
    shown = upload(show(image, protocol), engine.device)
    if protocol.window is None:
        return engine.find(shown[None], size)
    averaged = sliding_scores(engine, shown, protocol.window, protocol.stride)[None]
    return Finding(lambda: enlarged(averaged, size).argmax(1).byte(), lambda: enlarged(averaged, size))


def protocol_scores(engine: SegmentationEngine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Tensor:
    """(K, H, W), see `find`."""
    return find(engine, image, protocol, size).scores()[0]


def protocol_labels(engine: SegmentationEngine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Tensor:
    """(H, W) uint8: the likeliest class of every pixel, see `find`; of whole images in one graph."""
    if protocol.window is not None:
        return find(engine, image, protocol, size).labels()[0]
    shown = upload(show(image, protocol), engine.device)
    return engine(shown[None], _own_size(image) if size is None else size)[0]


def batch_labels(engine: SegmentationEngine, images: Tensor, protocol: Protocol) -> Tensor:
    """(B, 3, H, W) uint8 RGB → (B, H, W) uint8 on the engine's device; whole images go through the model together."""
    if protocol.window is not None:
        return torch.stack([protocol_labels(engine, image, protocol) for image in images])
    size = (images.shape[2], images.shape[3])
    return engine(upload(show(images, protocol), engine.device), size)


def enlarged(scores: Tensor, size: Size) -> Tensor:
    """(B, K, h, w) → (B, K, *size), bilinear"""
    if scores.shape[2:] == size:
        return scores
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def _own_size(image: Tensor) -> Size:
    return image.shape[1], image.shape[2]
