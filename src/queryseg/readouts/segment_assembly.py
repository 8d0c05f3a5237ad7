"""Queries' candidates to segments of one image, as Mask2Former reads them.

Shape legend: N candidates, Q queries, K classes, M segments found, h×w the masks' grid, H×W pixels.

Masks are enlarged one at a time, so that memory stays that of a few images however many candidates there are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.types import SegmentReading

MASK_THRESHOLD = 0.5
"""A pixel is in a mask from this probability on."""

Enlarge = Callable[[Tensor], Tensor]
"""Mask logits (h, w) → (H, W)."""


def enlarger(canvas: tuple[int, int], size: tuple[int, int]) -> Enlarge:
    """canvas: pixels that masks cover; size: H×W of the image, in the canvas' upper left corner."""

    def enlarge(logits: Tensor) -> Tensor:
        if logits.shape != canvas:
            logits = F.interpolate(logits[None, None], size=canvas, mode="bilinear", align_corners=False)[0, 0]
        return logits[: size[0], : size[1]]

    return enlarge


def panoptic_segments(
    mask_logits: Tensor,
    scores: Tensor,
    labels: Tensor,
    things: frozenset[int],
    overlap_threshold: float,
    enlarge: Enlarge,
    size: tuple[int, int],
) -> SegmentReading:
    """Every pixel goes to the candidate with the highest score × mask probability; a candidate that keeps less than
    `overlap_threshold` of its own mask is dropped, and its pixels with it; stuff of one class is one segment.

    mask_logits (N, h, w); scores, labels (N,). Ids follow the order of candidates; the score of merged stuff is its
    highest.

    Source: Mask2Former (Cheng et al. 2022), the public code's panoptic inference.
    """
    best = scores.new_full(size, -1.0)  # below every product: the first candidate takes pixels that none claims
    owner = torch.full(size, -1, dtype=torch.int32, device=scores.device)
    inside = torch.zeros(size, dtype=torch.bool, device=scores.device)
    own_areas = []
    for number, (logits, score) in enumerate(zip(mask_logits, scores, strict=True)):
        probability = enlarge(logits).sigmoid()
        weighted = score * probability
        in_mask = probability >= MASK_THRESHOLD
        own_areas.append(in_mask.sum())
        better = weighted > best
        best = torch.where(better, weighted, best)
        owner.masked_fill_(better, number)
        inside = torch.where(better, in_mask, inside)
    if not own_areas:
        return SegmentReading(owner + 1, labels, scores)  # 0 everywhere

    def pixels_of(where: Tensor) -> Tensor:
        return owner[where].long().bincount(minlength=len(labels))

    won, kept = pixels_of(owner >= 0), pixels_of(inside)
    own = torch.stack(own_areas)
    valid = (own > 0) & (kept > 0) & (won >= overlap_threshold * own)
    ids, found = [0] * (len(labels) + 1), _Found()
    for number, (label, score, good) in enumerate(
        zip(labels.tolist(), scores.tolist(), valid.tolist(), strict=True), 1
    ):
        if good:
            ids[number] = found.add(label, score, merged=label not in things)
    table = torch.tensor(ids, dtype=torch.int32, device=owner.device)
    segment_map = table[(owner + 1).long()].masked_fill(~inside, 0)
    return SegmentReading(segment_map, labels.new_tensor(found.labels), scores.new_tensor(found.scores))


class _Found:
    """Segments in the order of their ids, 1 …"""

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.scores: list[float] = []
        self._stuff: dict[int, int] = {}

    def add(self, label: int, score: float, merged: bool) -> int:
        if merged and label in self._stuff:
            place = self._stuff[label]
            self.scores[place - 1] = max(self.scores[place - 1], score)
            return place
        self.labels.append(label)
        self.scores.append(score)
        if merged:
            self._stuff[label] = len(self.labels)
        return len(self.labels)


def instance_segments(
    mask_logits: Tensor,
    class_scores: Tensor,
    things: frozenset[int],
    top_k: int,
    threshold: float,
    enlarge: Enlarge,
    size: tuple[int, int],
) -> SegmentReading:
    """The `top_k` best of all pairs of query and class; an object's score is its class score × the mean probability
    inside its mask. Things whose score reaches `threshold`, best first; masks may overlap, and on the segment map the
    better one covers.

    mask_logits (Q, h, w); class_scores (Q, K)

    Source: Mask2Former (Cheng et al. 2022), the public code's instance inference; the threshold is ours (its
    evaluation takes all).
    """
    num_queries, num_classes = class_scores.shape
    pair_scores, pairs = class_scores.flatten().topk(min(top_k, num_queries * num_classes))
    is_thing = torch.zeros(num_classes, dtype=torch.bool, device=class_scores.device)
    is_thing[sorted(things)] = True
    # the mask's part of a score is at most 1: what is below the threshold stays below it
    possible = is_thing[pairs % num_classes] & (pair_scores >= threshold)
    found: list[tuple[float, int, Tensor]] = []
    for pair, class_score in zip(pairs[possible].tolist(), pair_scores[possible].tolist(), strict=True):
        logits = enlarge(mask_logits[pair // num_classes])
        mask = logits > 0
        score = class_score * float((logits.sigmoid() * mask).sum() / (mask.sum() + 1e-6))
        if score >= threshold and bool(mask.any()):
            found.append((score, pair % num_classes, mask))
    found.sort(key=lambda entry: -entry[0])
    segment_map = torch.zeros(size, dtype=torch.int32, device=class_scores.device)
    for number, (_, _, mask) in reversed(list(enumerate(found, 1))):
        segment_map.masked_fill_(mask, number)
    masks = [mask for *_, mask in found]
    return SegmentReading(
        segment_map,
        torch.tensor([label for _, label, _ in found], dtype=torch.int64, device=class_scores.device),
        class_scores.new_tensor([score for score, *_ in found]),
        torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool, device=class_scores.device),
    )
