"""Scores of label maps near the borders of classes only.

Shape legend: W widths, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import InputError
from queryseg.metrics.boundary_band import class_edges, euclidean_band
from queryseg.metrics.confusion import class_counts, margins, margins_iou
from queryseg.metrics.metric import Metric, PredictedMaps
from queryseg.types import IGNORE, Sample


def trimap_counts(prediction: Tensor, label_map: Tensor, num_classes: int, widths: Sequence[int]) -> Tensor:
    """(W, K, K + 1) int64 `class_counts` of the labelled pixels less than each of `widths` pixels from an edge of the
    label map; at width 1 the edges themselves, both sides. prediction, label_map (H, W) uint8.

    Raises: InputError as `class_counts`
    """
    edges = class_edges(label_map)
    bands = (euclidean_band(edges, width) for width in widths)
    return torch.stack([class_counts(prediction, label_map.masked_fill(~band, IGNORE), num_classes) for band in bands])


class Trimap(Metric):
    """Mean IoU within bands of stated widths around the borders of the ground truth, pooled.

    widths  in pixels of the label map at its native size

    Edges lie between two labelled classes: neither ignored areas nor the image's border make one. Classes that are
    neither labelled nor predicted in a band are left out of its mean.

    Source: Kohli, Ladický and Torr 2009, Robust Higher Order Potentials for Enforcing Label Consistency, §5 (trimap);
    protocols.md §10. Papers leave open which side a band of 1 pixel is on; here it is both sides of a border.
    """

    name = "trimap"

    def __init__(self, num_classes: int, widths: Sequence[int] = (1, 3)) -> None:
        super().__init__()
        self.num_classes, self.widths = num_classes, checked_widths(widths)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"widths_px": list(self.widths)}

    def measure(self, prediction: PredictedMaps, sample: Sample) -> Tensor:
        """(W, 3, K) int32"""
        label_map = sample.label_map.to(prediction.label_map.device)
        confusion = trimap_counts(prediction.label_map, label_map, self.num_classes, self.widths)
        return torch.stack(margins(confusion), 1).int()

    def scores(self, pooled: Tensor) -> dict[str, Tensor]:
        return {f"mean_{name}": ious.nanmean(-1) for name, ious in self.per_class(pooled).items()}

    def per_class(self, pooled: Tensor) -> dict[str, Tensor]:
        ious = margins_iou(*pooled.unbind(-2)).unbind(-2)
        return {f"iou_{width}px": iou for width, iou in zip(self.widths, ious, strict=True)}


def checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Raises: InputError"""
    if not widths or min(widths) < 1 or len(set(widths)) < len(widths):
        raise InputError(
            f"Boundary widths are given as {', '.join(map(str, widths)) or 'nothing'}; give different whole numbers of "
            "pixels from 1 on, as in 1,3."
        )
    return tuple(widths)
