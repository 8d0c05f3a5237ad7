"""Scores of a label map, all from one pooled confusion matrix.

Shape legend: K classes. A confusion matrix is (…, K, K) int64 on the CPU: rows are labels, columns predictions; leading
dimensions (images) are kept. Pixels labelled 255 are counted nowhere.

Scores are pooled: matrices of images are added before any ratio is taken, never averaged per image.
Source: the PASCAL VOC and Cityscapes benchmarks; protocols.md §6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.errors import InputError
from queryseg.types import IGNORE

_AT_ONCE = 2**22
"""Pixels: bins are four times as large as labels, which counts for images of many."""


def confusion_matrix(prediction: Tensor, label_map: Tensor, num_classes: int) -> Tensor:
    """(K, K) int64: `class_counts` without the pixels that were predicted to be nothing."""
    return class_counts(prediction, label_map, num_classes)[:, :-1]


def class_counts(prediction: Tensor, label_map: Tensor, num_classes: int) -> Tensor:
    """(K, K + 1) int64 counts of one or more images: rows are labels, columns predictions; the last column counts
    pixels that were predicted to be nothing (255), which are missed by their class and claimed by none.

    prediction, label_map: uint8 of one shape, on one device; below num_classes or 255.

    Raises: InputError if a label or a prediction is neither a class nor 255, or if the shapes differ
    """
    check_shapes(prediction, label_map)
    # One bin per (label, prediction) of all 256 labels: cheaper than taking ignored pixels out first, and labels
    # without a class come to light.
    highest = int(prediction.max()) if prediction.numel() else 0
    table = pair_counts(label_map, prediction, num_classes if highest < num_classes else IGNORE + 1)
    check_labels(table.sum(1), num_classes)
    if highest < num_classes:
        return F.pad(table[:num_classes], (0, 1)).cpu()
    if stray := table[:, num_classes:IGNORE].sum(0).nonzero().flatten().tolist():
        raise InputError(
            f"A prediction holds {num_classes + stray[0]}, but there are {num_classes} classes: every pixel needs one "
            f"of them, 0 to {num_classes - 1}, or 255 for nothing."
        )
    return torch.cat([table[:num_classes, :num_classes], table[:num_classes, IGNORE:]], 1).cpu()


def pair_counts(first: Tensor, second: Tensor, num_second: int) -> Tensor:
    """(256, num_second) int64: in how many pixels two uint8 maps of one shape have each pair of values. second: below
    num_second"""
    counts = torch.zeros((IGNORE + 1) * num_second, dtype=torch.int64, device=first.device)
    for rows, columns in zip(*(torch.split(m.flatten(), _AT_ONCE) for m in (first, second)), strict=True):
        bins = rows.to(torch.int32).mul_(num_second).add_(columns)
        counts += torch.bincount(bins, minlength=len(counts))
    return counts.view(-1, num_second)


def check_shapes(prediction: Tensor, label_map: Tensor) -> None:
    """Raises: InputError if they differ"""
    if prediction.shape != label_map.shape:
        raise InputError(
            f"The prediction is {tuple(prediction.shape)} but the label map {tuple(label_map.shape)}; scores compare "
            "them pixel by pixel, so give both at one size."
        )


def check_labels(counts: Tensor, num_classes: int) -> None:
    """counts (256,) pixels per label. Raises: InputError if a label is neither a class nor 255"""
    if stray := counts[num_classes:IGNORE].nonzero().flatten().tolist():
        raise InputError(
            f"A label map holds {num_classes + stray[0]}, but there are {num_classes} classes: labels are 0 to "
            f"{num_classes - 1}, or 255 for ignored pixels."
        )


def iou(confusion: Tensor) -> Tensor:
    """(…, K) float64 in 0…1, true / (labelled + predicted − true); nan for a class that is in neither."""
    true, labelled, predicted = margins(confusion)
    return margins_iou(true, labelled, predicted)


def mean_iou(confusion: Tensor) -> Tensor:
    """(…) float64 in 0…1, mean over classes.

    A class that is neither labelled nor predicted is left out; one that is predicted but labelled nowhere counts as 0
    (a model that sees trains where there are none is wrong). The rule of Cityscapes' and mmsegmentation's evaluation.
    """
    return iou(confusion).nanmean(-1)


def pixel_accuracy(confusion: Tensor) -> Tensor:
    """(…) float64 in 0…1: share of labelled pixels that are right; nan if there are none."""
    true, labelled, _ = margins(confusion)
    return true.sum(-1).double() / labelled.sum(-1)


def recall(confusion: Tensor) -> Tensor:
    """(…, K) float64 in 0…1: share of a class's pixels that were found; nan for a class without label."""
    true, labelled, _ = margins(confusion)
    return true.double() / labelled


def mean_accuracy(confusion: Tensor) -> Tensor:
    """(…) float64 in 0…1: mean of `recall` over the classes that are labelled."""
    return recall(confusion).nanmean(-1)


def frequency_weighted_iou(confusion: Tensor) -> Tensor:
    """(…) float64 in 0…1: mean of IoU over classes, each weighing as much as it has labelled pixels; nan without any.

    Source: Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation, §5.
    """
    return weighted_iou(*margins(confusion))


def precision(confusion: Tensor) -> Tensor:
    """(…, K) float64 in 0…1: share of a class's predictions that are right; nan for a class never predicted."""
    true, _, predicted = margins(confusion)
    return true.double() / predicted


def margins(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels per class (…, K): rightly predicted, labelled, predicted. All that IoU needs of a confusion matrix, or of
    `class_counts`."""
    predicted = confusion.sum(-2)[..., : confusion.shape[-2]]
    return confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-1), predicted


def margins_iou(true: Tensor, labelled: Tensor, predicted: Tensor) -> Tensor:
    """(…, K) float64; see `iou`. 0 / 0 is the nan of an absent class."""
    return true.double() / (labelled + predicted - true)


def weighted_iou(true: Tensor, labelled: Tensor, predicted: Tensor) -> Tensor:
    """(…) float64; see `frequency_weighted_iou`."""
    ious = margins_iou(true, labelled, predicted)
    return (ious.nan_to_num() * labelled).sum(-1) / labelled.sum(-1)
