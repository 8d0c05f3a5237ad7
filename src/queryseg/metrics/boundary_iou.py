"""How well the contours of label maps agree.

Shape legend: W widths, K classes, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import InputError
from queryseg.metrics.boundary_band import Void, contour_band
from queryseg.metrics.confusion import check_labels, check_shapes, margins_iou, pair_counts
from queryseg.metrics.metric import Metric, PredictedMaps
from queryseg.metrics.trimap import checked_widths
from queryseg.types import IGNORE, Sample

DILATION_RATIO = 0.02
"""Of the image's diagonal: the published width."""


def contour_margins(
    prediction: Tensor, label_map: Tensor, num_classes: int, width: int, void: Void = "contour"
) -> Tensor:
    """(3, K) int64: pixels per class in both thin regions, in the ground truth's, in the prediction's.

    prediction, label_map  (H, W) uint8; a thin region is what lies near the contour inside of a class (`contour_band`).
    The prediction is not looked at where the label map ignores: it is ignored there, too.

    Raises: InputError if a label is no class, or if the sizes differ
    """
    check_shapes(prediction, label_map)
    prediction = prediction.masked_fill(label_map == IGNORE, IGNORE)
    labelled, predicted = (
        labels.masked_fill(~contour_band(labels, width, void), IGNORE) for labels in (label_map, prediction)
    )
    table = pair_counts(labelled, predicted, IGNORE + 1).cpu()
    check_labels(table.sum(1), num_classes)
    return torch.stack([table.diagonal(), table.sum(1), table.sum(0)])[:, :num_classes]


class BoundaryIoU(Metric):
    """Intersection over union of the thin regions inside of classes along their contours, in ground truth and
    prediction, pooled per class; then the mean over classes that have any.

    widths           of the thin regions in pixels (steps on the chessboard), of the label map at its native size
    dilation_ratio   one more width, this share of the image's diagonal, rounded, at least 1; None: no such width
    void             "contour": ignored pixels and the area beyond the image are outside of every class; "neutral": they
                     are neither inside nor outside and make no contour

    Source: Cheng et al. 2021, Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, eq. 2. There single
    masks are compared, without ignored pixels and with the image's border as contour; here classes of a label map are,
    pooled over the data set as IoU is, and ignored pixels are treated as the border is (ours).
    """

    name = "boundary_iou"

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (1, 3),
        dilation_ratio: float | None = DILATION_RATIO,
        void: Void = "contour",
    ) -> None:
        super().__init__()
        if dilation_ratio is not None and not 0 < dilation_ratio < 1:
            raise InputError(f"dilation_ratio is {dilation_ratio}; give a share of the diagonal, as 0.02, or none.")
        self.num_classes, self.dilation_ratio, self.void = num_classes, dilation_ratio, void
        self.widths = checked_widths(widths)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"widths_px": list(self.widths), "dilation_ratio": self.dilation_ratio, "void": self.void}

    def measure(self, prediction: PredictedMaps, sample: Sample) -> Tensor:
        """(W, 3, K) int32"""
        label_map = sample.label_map.to(prediction.label_map.device)
        widths = list(self.widths)
        if self.dilation_ratio is not None:
            widths.append(max(1, round(self.dilation_ratio * hypot(*label_map.shape))))
        counts = [contour_margins(prediction.label_map, label_map, self.num_classes, w, self.void) for w in widths]
        return torch.stack(counts).int()

    def scores(self, pooled: Tensor) -> dict[str, Tensor]:
        return {f"mean_{name}": ious.nanmean(-1) for name, ious in self.per_class(pooled).items()}

    def per_class(self, pooled: Tensor) -> dict[str, Tensor]:
        names = [f"iou_{width}px" for width in self.widths]
        if self.dilation_ratio is not None:
            names.append(f"iou_{100 * self.dilation_ratio:g}%")
        return dict(zip(names, margins_iou(*pooled.unbind(-2)).unbind(-2), strict=True))
