"""How well predicted segments match those of the ground truth.

Shape legend: H×W pixels, R runs of equal pixels, E pairs of a true and a found segment that share pixels (void among
them), K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import InputError
from queryseg.metrics.confusion import check_labels, check_shapes
from queryseg.metrics.metric import Metric, PanopticMap, PredictedMaps
from queryseg.types import IGNORE, Sample

_NUMBERS = 2**32  # more than instance numbers, so that class · _NUMBERS + number names a segment


class PanopticQuality(Metric):
    """PQ = SQ · RQ per class, averaged over all classes, things and stuff that were labelled or predicted.

    A predicted and a true segment of one class match if their IoU is above 0.5, which at most one can reach. RQ is the
    F1 score of matches, SQ the mean IoU of matches (0 without any).

    things  the classes whose objects are told apart; all others have one segment per image

    `segments` says where predicted segments come from, if whoever measures sets it.

    Rules, as in the COCO panoptic evaluator:
    - Void (255 in the ground truth) is taken out of the union before IoU.
    - A crowd (things with instance 0 in the ground truth) matches nothing and is missed by nobody.
    - An unmatched predicted segment is no false positive if more than half of it lies on void or on the crowd of its
      class.
    - In the prediction, 255 and things with instance 0 (pixels that nobody assigned to an object) belong to no segment;
      they still count as not found.

    Source: Kirillov et al. 2019, Panoptic Segmentation, §4; panopticapi's evaluation. Classes that no image of a data
    set labels or predicts are left out of the means, as there.

    Why not torchmetrics' PanopticQuality: it knows no crowds, forgives void in predictions, and sorts all pixels.
    """

    name = "panoptic"
    needs = frozenset({"panoptic"})

    def __init__(self, num_classes: int, things: Collection[int]) -> None:
        super().__init__()
        self.num_classes, self.things = num_classes, frozenset(things)
        self.segments = ""
        if strange := [k for k in self.things if not 0 <= k < num_classes]:
            raise InputError(f"Class {min(strange)} is said to be a thing, but there are {num_classes} classes.")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"things": sorted(self.things), "segments": self.segments}

    def measure(self, prediction: PredictedMaps, sample: Sample) -> Tensor:
        """(4, K) float64: sum of matches' IoU, matches, false positives, false negatives"""
        if prediction.panoptic is None:
            raise InputError(
                "Panoptic quality needs predicted segments (a label map and an instance map); labels alone are not "
                "enough."
            )
        instance_map = sample.instance_map
        if instance_map is None:
            if self.things:
                raise InputError(
                    f"'{sample.name}' has no instance map, and panoptic quality compares objects; choose a data set "
                    "that tells them apart, or leave out this measure."
                )
            instance_map = torch.zeros_like(sample.label_map, dtype=torch.int32)
        truth = PanopticMap(sample.label_map, instance_map)
        return panoptic_counts(prediction.panoptic, truth, self.num_classes, self.things)

    def scores(self, pooled: Tensor) -> dict[str, Tensor]:
        qualities = self.per_class(pooled)
        is_thing = _membership(self.things)[: self.num_classes]
        groups = {"": torch.ones_like(is_thing), "_things": is_thing, "_stuff": ~is_thing}
        return {
            f"{name}{group}": values[..., members].nanmean(-1)
            for group, members in groups.items()
            for name, values in qualities.items()
        }

    def per_class(self, pooled: Tensor) -> dict[str, Tensor]:
        overlap, matches, wrong, missed = pooled.unbind(-2)
        segments = matches + 0.5 * wrong + 0.5 * missed
        # 0 / 0 is the nan of an absent class; a class without any match is present, and its SQ is 0
        segmentation = torch.where(segments > 0, overlap / matches.clamp(min=1), torch.nan)
        return {"pq": overlap / segments, "sq": segmentation, "rq": matches / segments}


def panoptic_counts(prediction: PanopticMap, truth: PanopticMap, num_classes: int, things: Collection[int]) -> Tensor:
    """(4, K) float64 of one image, see `PanopticQuality`: sum of matches' IoU, matches, false positives and negatives.

    Raises: InputError if a label is no class, or if sizes differ
    """
    for other in (prediction.instance_map, truth.label_map, truth.instance_map):
        check_shapes(prediction.label_map, other)
    device, is_thing = prediction.label_map.device, _membership(things)
    maps = (truth.label_map, truth.instance_map, prediction.label_map, prediction.instance_map)
    (*true_runs, found_label, found_number), lengths = _runs(*(m.to(device).flatten() for m in maps))
    true_names, true_index = _segments(true_runs[0], true_runs[1], is_thing)
    found_names, found_index = _segments(found_label, found_number, is_thing)
    # Only pairs that meet are listed: label maps in tatters have more segments than a table of all pairs can hold.
    pair_names, pair = torch.unique(true_index * len(found_names) + found_index, return_inverse=True)
    overlap = _sums(pair, lengths, len(pair_names))  # (E,) pixels
    true, found = pair_names // len(found_names), pair_names % len(found_names)

    true_class, crowd = _classes(true_names, is_thing, num_classes)
    found_class, unassigned = _classes(found_names, is_thing, num_classes)
    void = true_class == IGNORE
    countable, segment = ~void & ~crowd, (found_class != IGNORE) & ~unassigned

    true_area, found_area = _sums(true, overlap, len(true_names)), _sums(found, overlap, len(found_names))
    same_class = true_class[true] == found_class[found]
    on_void = _sums(found, overlap * void[true], len(found_names))
    on_crowd = _sums(found, overlap * (same_class & crowd[true]), len(found_names))
    union = true_area[true] + found_area[found] - overlap - on_void[found]
    match = same_class & countable[true] & segment[found] & (2 * overlap > union)
    is_matched, is_found = torch.zeros_like(void), torch.zeros_like(segment)
    is_matched[true[match]] = True
    is_found[found[match]] = True
    wrong = segment & ~is_found & (2 * (on_void + on_crowd) <= found_area)
    missed = countable & ~is_matched

    ious = (overlap / union)[match]
    classes = (true_class[true[match]], true_class[true[match]], found_class[wrong], true_class[missed])
    weights = (ious, *(torch.ones(len(group)) for group in classes[1:]))
    counts = [_sums(group, weight, IGNORE + 1) for group, weight in zip(classes, weights, strict=True)]
    return torch.stack(counts)[:, :num_classes]


def _sums(index: Tensor, weights: Tensor, length: int) -> Tensor:
    """(length,) float64: weights added up where index says; counts of pixels stay exact."""
    return torch.bincount(index, weights.double(), minlength=length)


def _runs(*maps: Tensor) -> tuple[list[Tensor], Tensor]:
    """Flat maps → their values (R,) where one of them changes, and for how many pixels (R,) they stay, on the CPU. A
    map has a hundred times as many pixels as runs, and whatever follows need only look at these."""
    changes = torch.zeros(maps[0].shape, dtype=torch.bool, device=maps[0].device)
    changes[:1] = True
    for values in maps:
        changes[1:] |= values[1:] != values[:-1]
    starts = changes.nonzero().flatten()
    ends = torch.cat([starts[1:], starts.new_tensor([len(changes)])])
    return [values[starts].long().cpu() for values in maps], (ends - starts).cpu()


def _segments(classes: Tensor, numbers: Tensor, is_thing: Tensor) -> tuple[Tensor, Tensor]:
    """Class and instance of every run (R,) → names of segments, ascending, and the index of each run's name.

    Raises: InputError if a number is negative
    """
    if bool((numbers < 0).any()):
        raise InputError(f"An instance map holds {int(numbers.min())}; objects are numbered from 1 on, 0 is a crowd.")
    names, index = torch.unique(classes * _NUMBERS + numbers * is_thing[classes], return_inverse=True)
    return names, index


def _classes(names: Tensor, is_thing: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Segments' names → their classes, and whether they are things without a number. Raises: InputError"""
    classes, numbers = names // _NUMBERS, names % _NUMBERS
    check_labels(torch.bincount(classes, minlength=IGNORE + 1), num_classes)
    return classes, is_thing[classes] & (numbers == 0)


def _membership(things: Collection[int]) -> Tensor:
    """(256,) bool: label → is it a thing?"""
    is_thing = torch.zeros(IGNORE + 1, dtype=torch.bool)
    is_thing[sorted(things)] = True
    return is_thing
