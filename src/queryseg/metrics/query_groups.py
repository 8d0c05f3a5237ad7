"""Queries that stand for the same class.

Shape legend: N images, Q queries, K classes. `groups` (N, Q) int64 is the class that each query stands for, by the
class head or by the nearest prototype; −1 for none.
"""

from __future__ import annotations

from math import nan

import torch
from torch import Tensor

from queryseg.metrics.query_activity import NO_CLASS


def nearest_prototypes(similarity: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each query's class by the nearest prototype, its similarity to that, and its lead over the second nearest.

    similarity (N, Q, K), known (K,) bool: classes that have a prototype → groups (N, Q), similarity (N, Q), margin
    (N, Q). The margin is nan where fewer than two classes are known; without any, groups are −1 and both are nan.
    Source: QPrompt-R1 Eq. 7.
    """
    num_known = int(known.sum())
    if not num_known:
        undefined = similarity.new_full(similarity.shape[:2], nan)
        return torch.full_like(undefined, NO_CLASS, dtype=torch.int64), undefined, undefined
    best, classes = similarity.masked_fill(~known, -torch.inf).topk(min(2, similarity.shape[-1]), -1)
    margin = best[..., 0] - best[..., 1] if num_known > 1 else torch.full_like(best[..., 0], nan)
    return classes[..., 0], best[..., 0], margin


def group_sizes(groups: Tensor, num_classes: int) -> Tensor:
    """(N, K) int64: how many queries of an image stand for each class."""
    return _members(groups, num_classes).sum(1)


def spread_within_groups(values: Tensor, groups: Tensor, num_classes: int) -> float:
    """Population standard deviation of values (N, Q) among an image's queries of one class, mean over all groups of at
    least two; nan if there is none. Source: σ_g of QPrompt-R1 Eq. 9."""
    members = _members(groups, num_classes).bool()
    sizes = members.sum(1)
    own = torch.where(members, values.double()[..., None], 0)
    means = own.sum(1) / sizes.clamp(min=1)
    variances = torch.where(members, own - means[:, None], 0).square().sum(1) / sizes.clamp(min=1)
    return float(variances.sqrt()[sizes >= 2].mean()) if (sizes >= 2).any() else nan


def majority_groups(groups: Tensor, num_classes: int) -> Tensor:
    """(Q,) int64: the class that each query stands for in most images, the lower label of two equals; −1 if in none."""
    times = _members(groups, num_classes).sum(0)
    most, classes = times.max(1)
    return classes.masked_fill(most == 0, NO_CLASS)


def _members(groups: Tensor, num_classes: int) -> Tensor:
    """(N, Q, K) int64, 1 where the query stands for the class."""
    return torch.nn.functional.one_hot(groups + 1, num_classes + 1)[..., 1:]
