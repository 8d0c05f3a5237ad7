"""Scores of large images, from top to bottom a strip at a time: those of a whole image may not fit into memory.

Shape legend: K classes, h×w pixels as shown to the model, H×W as asked for, n rows of a strip. A strip is its first row
and (K, n, w or W) float32 scores; strips follow each other without gaps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.inference.engine import SegmentationEngine, Size

PIXELS_PER_PASS = 2**20
"""Windows share a forward pass up to so many pixels (four windows of 512): bounds memory, whatever the image's size."""

_ROWS_TOGETHER = 64  # of enlarged scores

Box = tuple[int, int, int, int]
Strip = tuple[int, Tensor]


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


def window_strips(engine: SegmentationEngine, image: Tensor, window: int, stride: int) -> Iterator[Strip]:
    """(3, h, w) uint8 → strips of the scores of all windows, averaged where they overlap.

    A strip is done when the next row of windows begins below it; only one row of windows is held.
    """
    height, width = image.shape[-2:]
    boxes = window_boxes(height, width, window, stride)
    rows = min(window, height)
    num_together = max(1, PIXELS_PER_PASS // (rows * min(window, width)))
    held: Tensor | None = None  # (K, rows, w) sums from row `first` on
    count = torch.zeros(rows, width, device=image.device)
    first = 0
    for start in range(0, len(boxes), num_together):
        part = boxes[start : start + num_together]
        scores = engine.find(torch.stack([image[:, t:b, le:r] for t, le, b, r in part])).scores().float()
        if held is None:
            # classes beside each other in memory, as readouts give them: every later step reads neighbours
            held = scores.new_zeros(rows, width, scores.shape[1]).permute(2, 0, 1)
        for (top, left, _, right), window_scores in zip(part, scores, strict=True):
            if done := top - first:
                yield first, held[:, :done] / count[:done]
                held, count, first = _moved_up(held, done), _moved_up(count[None], done)[0], top
            held[:, :, left:right] += window_scores
            count[:, left:right] += 1
    assert held is not None, "an image has at least one window"
    yield first, held / count


def _moved_up(rows: Tensor, number: int) -> Tensor:
    """(…, n, w): without the first rows, as many zeros at the end."""
    result = torch.zeros_like(rows)
    result[:, : rows.shape[1] - number] = rows[:, number:]
    return result


def labels_of(strips: Iterator[Strip], shown: Size, size: Size) -> Tensor:
    """(H, W) uint8, the likeliest classes of scores that cover `shown`, enlarged to `size` without ever being whole."""
    found: list[Tensor] = []
    for _, scores in strips if shown == size else enlarged_strips(strips, shown, size):
        found.append(scores.argmax(0).byte())
    return torch.cat(found)


def enlarged_strips(strips: Iterator[Strip], shown: Size, size: Size) -> Iterator[Strip]:
    """Bilinear, as `F.interpolate` without aligned corners does but for rounding: rows first, then columns."""
    places = ((torch.arange(size[0], dtype=torch.float64) + 0.5) * (shown[0] / size[0]) - 0.5).clamp(0, shown[0] - 1)
    upper = places.floor().long()
    lower = (upper + 1).clamp(max=shown[0] - 1)
    shares = (places - upper).float()
    done, held_from = 0, 0
    held: Tensor | None = None
    for _, scores in strips:
        held = scores if held is None else torch.cat([held, scores], 1)
        ready = int((lower < held_from + held.shape[1]).sum())  # rising, so these are the first
        while done < ready:
            end = min(done + _ROWS_TOGETHER, ready)
            share = shares[done:end, None].to(held.device)
            above = held[:, (upper[done:end] - held_from).to(held.device)]
            below = held[:, (lower[done:end] - held_from).to(held.device)]
            rows = above * (1 - share) + below * share
            yield done, F.interpolate(rows[None], (end - done, size[1]), mode="bilinear", align_corners=False)[0]
            done = end
        if done < size[0]:
            passed = min(int(upper[done]) - held_from, held.shape[1])
            held, held_from = held[:, passed:], held_from + passed
