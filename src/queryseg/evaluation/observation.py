"""What a model said while it was evaluated, beside what it should have said.

Shape legend: B views of one image (the whole image, or its windows), H×W the canvas that masks cover, in pixels as
shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.data.protocol import Protocol
from queryseg.inference.score_strips import window_boxes
from queryseg.inference.windows import shown_size
from queryseg.segmenter import Segmenter
from queryseg.types import IGNORE, Output, Sample


@dataclass(frozen=True)
class Observation:
    """One forward pass.

    output      of B views, as the readout got it
    label_maps  (B, H, W) uint8 on the output's device, 255 = ignored, beyond the view too
    size        (height, width) of the views, which sit in the canvas' upper left corner
    """

    output: Output
    label_maps: Tensor
    size: tuple[int, int]


Observer = Callable[[Observation], None]


@contextmanager
def observed(model: Segmenter, sample: Sample, protocol: Protocol, observer: Observer) -> Iterator[None]:
    """Shows every forward pass inside to the observer, with the part of the sample's label map that it saw; of several
    views (flip, scales) those of the first one.

    Nothing is kept: the masks of an image's windows may be many.
    """
    height, width = shown_size((sample.image.shape[1], sample.image.shape[2]), protocol, protocol.scales[0])
    boxes = [(0, 0, height, width)]
    if protocol.window is not None:
        boxes = window_boxes(height, width, protocol.window, protocol.stride)
    label_map = F.interpolate(sample.label_map[None, None], (height, width), mode="nearest")[0, 0]
    coming = iter(boxes)

    def show(module: object, arguments: object, output: Output) -> None:
        masks = output.final.mask_logits
        views = [label_map[top:bottom, left:right] for top, left, bottom, right in islice(coming, len(masks))]
        if not views:  # of a further view
            return
        size = (views[0].shape[0], views[0].shape[1])
        canvas = model.canvas(*size)
        padding = (0, canvas[1] - size[1], 0, canvas[0] - size[0])
        label_maps = torch.stack([F.pad(view, padding, value=IGNORE) for view in views])
        observer(Observation(output, label_maps.to(masks.device), size))

    handle = model.register_forward_hook(show)
    try:
        yield
    finally:
        handle.remove()
