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
    instance_maps  (B, H, W) int32, numbers of objects; None if the data set does not tell them apart
    """

    output: Output
    label_maps: Tensor
    size: tuple[int, int]
    instance_maps: Tensor | None = None


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
    maps = [sample.label_map] if sample.instance_map is None else [sample.label_map, sample.instance_map]
    # float64 holds every number of an object; interpolation knows no int32
    shown = F.interpolate(torch.stack([m.double() for m in maps])[None], (height, width), mode="nearest")[0]
    coming = iter(boxes)

    def show(module: object, arguments: object, output: Output) -> None:
        masks = output.final.mask_logits
        views = [shown[:, top:bottom, left:right] for top, left, bottom, right in islice(coming, len(masks))]
        if not views:  # of a further view
            return
        size = (views[0].shape[1], views[0].shape[2])
        canvas = model.canvas(*size)
        padding = (0, canvas[1] - size[1], 0, canvas[0] - size[0])
        labels, *instances = torch.stack([F.pad(view, padding, value=IGNORE) for view in views], 1)
        instance_maps = instances[0].int().to(masks.device) if instances else None
        observer(Observation(output, labels.byte().to(masks.device), size, instance_maps))

    handle = model.register_forward_hook(show)
    try:
        yield
    finally:
        handle.remove()
