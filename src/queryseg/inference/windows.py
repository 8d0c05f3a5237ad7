"""Shows an image to a model as a protocol says: resized or not, whole or in sliding windows, in one or several views.

Shape legend: K classes, H×W pixels of the image as given, h×w as shown to the model.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.engine import Finding, SegmentationEngine, Size
from queryseg.inference.host_copies import upload
from queryseg.inference.score_strips import labels_of, window_strips
from queryseg.types import Sample

SCORES_LIMIT = 2**31
"""Bytes. Where the scores of windows would take more, labels are made strip by strip."""

WHOLE_SCORES_LIMIT = 2**33
"""Bytes. The same for whole images, whose labels may change by it, and the most for averages of several views."""

WHOLE_LIMIT = 2**25
"""Pixels. Larger images are not shown whole to a model: what it computes would not fit into memory."""


def shown_size(size: Size, protocol: Protocol, scale: float = 1.0) -> Size:
    """(h, w) at which an image of size (H, W) is shown in a view of this scale: what the protocol says, with the
    image's own ratio (rounded, halves up, as mmsegmentation does)."""
    if protocol.short_side is not None:
        scale *= protocol.short_side / min(size)
    if protocol.fit is not None:
        scale *= min(max(protocol.fit) / max(size), min(protocol.fit) / min(size))
    if scale == 1:
        return size
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def show(image: Tensor, protocol: Protocol, scale: float = 1.0) -> Tensor:
    """(…, 3, H, W) uint8 → (…, 3, h, w) uint8, see `resized`."""
    size = shown_size((image.shape[-2], image.shape[-1]), protocol, scale)
    return image if size == image.shape[-2:] else resized(image, size)


def compared(sample: Sample, protocol: Protocol) -> Sample:
    """The sample with labels (and objects) at the size at which the protocol compares: by the nearest pixel, odd sides
    rounded down. The image stays as it is."""
    if protocol.label_reduction == 1:
        return sample
    instances = None if sample.instance_map is None else _reduced(sample.instance_map, protocol.label_reduction)
    return replace(sample, label_map=_reduced(sample.label_map, protocol.label_reduction), instance_map=instances)


def _reduced(x: Tensor, divisor: int) -> Tensor:
    """(H, W) → (H // divisor, W // divisor), picked at pixel centres; `F.interpolate` does not take int32."""
    rows, columns = (
        ((torch.arange(kept) + 0.5) * (side / kept)).long() for side in x.shape for kept in [max(1, side // divisor)]
    )
    return x[rows[:, None], columns]


def windowed_if_large(protocol: Protocol, size: Size) -> Protocol:
    """The protocol itself, or, if it shows an image of this size whole and that is too large (`WHOLE_LIMIT`), the same
    in the field's windows."""
    height, width = shown_size(size, protocol, max(protocol.scales))
    if protocol.window is not None or height * width <= WHOLE_LIMIT:
        return protocol
    return replace(protocol, window=512, stride=341, name="")


def resized(image: Tensor, size: Size) -> Tensor:
    """(…, 3, H, W) uint8 → (…, 3, *size) uint8, as training images are resized: bilinear with antialiasing."""
    result: Tensor = resize(image, list(size), InterpolationMode.BILINEAR, antialias=True)
    return result


def sliding_scores(engine: SegmentationEngine, image: Tensor, window: int, stride: int) -> Tensor:
    """(3, h, w) uint8 → (K, h, w) float32: scores of all windows, averaged where they overlap."""
    total: Tensor | None = None
    for first, scores in window_strips(engine, image, window, stride):
        if total is None:
            total = scores.new_empty(*image.shape[-2:], scores.shape[0]).permute(2, 0, 1)
        total[:, first : first + scores.shape[1]] = scores
    assert total is not None, "an image has at least one window"
    return total


def find(engine: SegmentationEngine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Finding:
    """What the engine says of one image, shown as the protocol says; labels (1, H, W), scores (1, K, H, W).

    image  (3, H, W) uint8 RGB
    size   (H, W) of the label; None: the image's own

    Scores are enlarged once: those of a whole image go from the masks' own grid straight to `size`. Those of windows
    are averaged at the shown size first, as in the field, and resized only if `size` differs. Those of several views
    (flip, scales) are averaged at `size`.

    Where scores of windows would take more than `SCORES_LIMIT`, labels are made strip by strip: the same ones, but for
    rounding if `size` is not the shown size. Labels of a whole image that is resized are made strip by strip above
    `WHOLE_SCORES_LIMIT`, and then from scores that are enlarged from the shown size instead of from the masks' grid.

    Raises: InputError if several views of so large an image are asked for
    """
    size = _own_size(image) if size is None else size
    if protocol.has_one_view:
        return _find_view(engine, upload(show(image, protocol), engine.device), protocol, size)
    if _num_bytes(engine, size) > WHOLE_SCORES_LIMIT:
        raise InputError(
            f"The averaged scores of {len(protocol.views)} views at {size[1]}×{size[0]} pixels would take more than "
            f"{WHOLE_SCORES_LIMIT / 2**30:g} GiB; leave out flip and scales for images of this size."
        )
    total: Tensor | None = None
    for scale, mirrored in protocol.views:
        shown = upload(show(image, protocol, scale), engine.device)
        scores = _find_view(engine, shown.flip(-1) if mirrored else shown, protocol, size).scores()
        scores = scores.flip(-1) if mirrored else scores
        total = scores if total is None else total + scores
    assert total is not None, "a protocol has at least one view"
    averaged = total / len(protocol.views)
    return Finding(lambda: averaged.argmax(1).byte(), lambda: averaged)


def _find_view(engine: SegmentationEngine, shown: Tensor, protocol: Protocol, size: Size) -> Finding:
    at, num_bytes = _own_size(shown), _num_bytes(engine, size)
    window, stride = protocol.window, protocol.stride
    if window is None:
        found = engine.find(shown[None], size)
        if num_bytes <= WHOLE_SCORES_LIMIT or size == at:
            return found
        return Finding(lambda: _whole_labels(engine, shown, size), found.scores)
    if num_bytes > SCORES_LIMIT:
        return Finding(
            lambda: labels_of(window_strips(engine, shown, window, stride), at, size)[None],
            lambda: enlarged(sliding_scores(engine, shown, window, stride)[None], size),
        )
    averaged = sliding_scores(engine, shown, window, stride)[None]
    return Finding(lambda: enlarged(averaged, size).argmax(1).byte(), lambda: enlarged(averaged, size))


def _whole_labels(engine: SegmentationEngine, shown: Tensor, size: Size) -> Tensor:
    found = engine.find(shown[None])
    try:
        scores = found.scores()[0]
    except InputError:  # an exported file without scores enlarges its labels, which takes little
        return engine.find(shown[None], size).labels()
    return labels_of(iter([(0, scores)]), _own_size(shown), size)[None]


def _num_bytes(engine: SegmentationEngine, size: Size) -> int:
    """Of float32 scores."""
    return 4 * len(engine.class_names) * size[0] * size[1]


def protocol_scores(engine: SegmentationEngine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Tensor:
    """(K, H, W), see `find`."""
    return find(engine, image, protocol, size).scores()[0]


def protocol_labels(engine: SegmentationEngine, image: Tensor, protocol: Protocol, size: Size | None = None) -> Tensor:
    """(H, W) uint8: the likeliest class of every pixel, see `find`; of whole images in one graph."""
    size = _own_size(image) if size is None else size
    large = _num_bytes(engine, size) > WHOLE_SCORES_LIMIT
    if protocol.window is not None or not protocol.has_one_view or large:
        return find(engine, image, protocol, size).labels()[0]
    return engine(upload(show(image, protocol), engine.device)[None], size)[0]


def batch_labels(engine: SegmentationEngine, images: Tensor, protocol: Protocol) -> Tensor:
    """(B, 3, H, W) uint8 RGB → (B, H, W) uint8 on the engine's device; whole images go through the model together."""
    if protocol.window is not None or not protocol.has_one_view:
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
