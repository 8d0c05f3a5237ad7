"""Where label maps change, and the pixels near it.

Shape legend: H×W pixels. Everything runs on whole maps, all classes at once, as running minima and maxima of bytes: no
distance transform and no erosion per class, which take a hundred times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.types import IGNORE

Void = Literal["contour", "neutral"]
"""Whether ignored pixels and the area beyond the image make contours."""


def class_edges(label_map: Tensor) -> Tensor:
    """(H, W) uint8 → (H, W) bool: pixels with one of their four neighbours in another class; both sides of a border.
    Neither ignored pixels nor the image's border make an edge."""
    edges = torch.zeros_like(label_map, dtype=torch.bool)
    valid = label_map != IGNORE
    for dim in (0, 1):
        length = label_map.shape[dim] - 1
        near, far = label_map.narrow(dim, 0, length), label_map.narrow(dim, 1, length)
        border = (near != far) & valid.narrow(dim, 0, length) & valid.narrow(dim, 1, length)
        edges.narrow(dim, 0, length).logical_or_(border)
        edges.narrow(dim, 1, length).logical_or_(border)
    return edges


def euclidean_band(edges: Tensor, width: int) -> Tensor:
    """(H, W) bool → (H, W) bool: pixels whose centre is less than `width` pixels from the centre of an edge pixel;
    none where there is no edge."""
    height = edges.shape[0]
    points, band = edges.byte(), torch.zeros_like(edges, dtype=torch.uint8)
    rows, reached = points, -1
    # the disc as rows: `rows` at distance `down` reach as far to both sides as the disc is wide there, ever less
    for down in reversed(range(min(width, height))):
        reach = isqrt(width * width - 1 - down * down)
        if reach != reached:
            rows, reached = _windows(points, reach, 0, torch.maximum, dims=(1,)), reach
        band[down:].bitwise_or_(rows[: height - down])
        band[: height - down].bitwise_or_(rows[down:])
    return band.bool()


def contour_band(label_map: Tensor, reach: int, void: Void = "contour") -> Tensor:
    """(H, W) uint8 → (H, W) bool: pixels of a class with a pixel outside of that class within `reach` steps on the
    chessboard. The same as eroding every class `reach` times with a 3×3 square and taking what went.

    void  "contour"  ignored pixels and the area beyond the image are outside of every class
          "neutral"  they are neither inside nor outside
    """
    # A window holds one class only if its lowest label is its highest. Ignored pixels, 255, never are the lowest.
    lowest = _windows(label_map, reach, IGNORE, torch.minimum)
    if void == "contour":
        highest = _windows(label_map, reach, IGNORE, torch.maximum)
    else:
        highest = _windows(label_map.masked_fill(label_map == IGNORE, 0), reach, 0, torch.maximum)
    return (lowest != highest) & (label_map != IGNORE)


def _windows(
    values: Tensor,
    reach: int,
    outside: int,
    extreme: Callable[[Tensor, Tensor], Tensor],
    dims: tuple[int, ...] = (0, 1),
) -> Tensor:
    """(H, W) → (H, W): the extreme of the (2·reach + 1)-wide window around every pixel along each of dims.

    Windows of length n and m that overlap make one of length up to n + m: a number of steps that grows as log(reach).
    """
    for dim in dims:
        padding = (0, 0, reach, reach) if dim == 0 else (reach, reach)
        values = F.pad(values, padding, value=outside)
        length, wanted = 1, 2 * reach + 1
        while length < wanted:
            step = min(length, wanted - length)
            size = values.shape[dim] - step
            values = extreme(values.narrow(dim, 0, size), values.narrow(dim, step, size))
            length += step
    return values
