"""Where chosen queries of one image look, layer by layer.

Shape legend: Q queries, n of them chosen, L layers, H×W the image as shown, h×w a level or the masks' grid, S cells
of a level, T of them seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.data.protocol import Protocol
from queryseg.decoders import CrossAttention
from queryseg.errors import InputError
from queryseg.inference.windows import show
from queryseg.metrics.query_activity import NO_CLASS
from queryseg.segmenter import Segmenter
from queryseg.types import Prediction, Sample

NUM_LAYERS, NUM_CHOSEN = 4, 3
"""The last layers of the decoder, and queries of an image unless some are named."""


@dataclass(frozen=True)
class LayerAttention:
    """layer: its number, from 0; stride: of the level that it read, in pixels; maps (n, h, w) attention averaged over
    heads, 0 where it did not look."""

    layer: int
    stride: int
    maps: Tensor


@dataclass(frozen=True)
class AttendedImage:
    """One image and what some queries attended to in it.

    image    (H, W, 3) uint8, as shown to the model
    queries  n numbers
    classes  what each stands for by the class head, −1 if it is not active
    scores   of that class
    boxes    (left, top, right, bottom) around each query's mask, as shares of the image; None: its mask is empty
    layers   the last ones, in order
    """

    name: str
    image: npt.NDArray[np.uint8]
    queries: tuple[int, ...]
    classes: tuple[int, ...]
    scores: tuple[float, ...]
    boxes: tuple[tuple[float, float, float, float] | None, ...]
    layers: tuple[LayerAttention, ...]


def shows_attention(model: Segmenter) -> bool:
    """Whether queries of this model look at levels by cross-attention."""
    return isinstance(model.decoder, CrossAttention)


def check_chosen(model: Segmenter, queries: Sequence[int], num_queries: int) -> None:
    """Raises: InputError if the model has no attention maps or not these queries."""
    if queries and not shows_attention(model):
        raise InputError(
            f"Attention maps of queries are asked for, but {type(model.decoder).__name__} has no cross-attention to "
            "show; leave the queries out, or give a run of Mask2Former or FASeg."
        )
    for query in queries:
        if not 0 <= query < num_queries:
            raise InputError(f"Query {query} is asked for, but this model has {num_queries} (0 … {num_queries - 1}).")


@torch.no_grad()
def attended_image(
    model: Segmenter, sample: Sample, protocol: Protocol, queries: Sequence[int] | None = None
) -> AttendedImage:
    """Show one whole image, at the protocol's size, to a model in eval mode. queries: None: the most confident active
    ones of different classes.

    Raises: InputError
    """
    shown = show(sample.image, protocol)
    height, width = shown.shape[-2:]
    parameter = next(model.parameters())
    features = model.encode(model.normalise(shown[None].to(parameter.device)))
    asking = model.make_queries(features)
    if queries is not None:
        check_chosen(model, queries, asking.num_attending)
    decoder = cast(CrossAttention, model.decoder)
    with _recorded(decoder) as seen:
        reading = model.decode(features, asking).final
    chosen = tuple(_telling(reading) if queries is None else queries)
    canvas = model.canvas(height, width)
    layers = []
    for index in sorted(seen)[-NUM_LAYERS:]:
        attention, pixels = seen[index]
        level = features.levels[index % decoder.num_levels]
        rows, columns = level.shape[-2:]
        maps = _whole(attention[0, list(chosen)], None if pixels is None else pixels[0], rows * columns)
        inside = -(-height * rows // canvas[0]), -(-width * columns // canvas[1])  # the rest is padding
        maps = maps.view(-1, rows, columns)[:, : inside[0], : inside[1]].float().cpu()
        layers.append(LayerAttention(index, round(canvas[0] / rows), maps))
    classes = reading.class_scores[0].argmax(-1).masked_fill(~reading.active[0], NO_CLASS)
    best = reading.class_scores[0].amax(-1)
    masks = reading.mask_logits[0, list(chosen)] > 0
    grid = masks.shape[-2:]
    masks = masks[:, : -(-height * grid[0] // canvas[0]), : -(-width * grid[1] // canvas[1])].cpu()
    return AttendedImage(
        sample.name,
        np.ascontiguousarray(shown.permute(1, 2, 0).cpu().numpy()),
        chosen,
        tuple(int(classes[query]) for query in chosen),
        tuple(float(best[query]) for query in chosen),
        tuple(_box(mask) for mask in masks),
        tuple(layers),
    )


@contextmanager
def _recorded(decoder: CrossAttention) -> Iterator[dict[int, tuple[Tensor, Tensor | None]]]:
    """Inside, every layer gives its attention (B, Q, T), and which cells of its level that is over (B, T) or None."""
    seen: dict[int, tuple[Tensor, Tensor | None]] = {}

    def ask(module: object, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*given[:2], True)

    handles = []
    for index, layer in enumerate(decoder.layers):

        def keep(module: object, given: tuple[Any, ...], out: tuple[Tensor, Tensor | None], index: int = index) -> None:
            if out[1] is not None:  # row-column attention has none
                seen[index] = out[1], given[1].pixels

        handles += [layer.register_forward_pre_hook(ask), layer.register_forward_hook(keep)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _whole(attention: Tensor, pixels: Tensor | None, num_cells: int) -> Tensor:
    """attention (n, T) to the cells pixels (T) → (n, S)"""
    if pixels is None:
        return attention
    empty = attention.new_zeros(attention.shape[0], num_cells)
    return empty.scatter_add_(1, pixels.expand(attention.shape[0], -1), attention)


def _telling(reading: Prediction) -> list[int]:
    """The most confident query of each class, active ones first; confidence is class score times mean mask
    probability, as in Mask2Former."""
    masks, scores = reading.mask_logits[0], reading.class_scores[0]
    inside = masks > 0
    sure = (masks.sigmoid() * inside).sum((-2, -1)) / inside.sum((-2, -1)).clamp(min=1)
    confidence = scores.amax(-1) * sure + reading.active[0]
    found: dict[int, int] = {}
    for query in confidence.argsort(descending=True).tolist():
        found.setdefault(int(scores[query].argmax()), query)
    return list(found.values())[:NUM_CHOSEN]


def _box(mask: Tensor) -> tuple[float, float, float, float] | None:
    """mask (h, w) bool"""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    height, width = mask.shape
    left, right = int(columns[0]) / width, (int(columns[-1]) + 1) / width
    return left, int(rows[0]) / height, right, (int(rows[-1]) + 1) / height


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """maps (n, h, w) → (n, H, W), bilinear, each with a greatest value of 1."""
    maps = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((-2, -1), keepdim=True).clamp(min=1e-12)
