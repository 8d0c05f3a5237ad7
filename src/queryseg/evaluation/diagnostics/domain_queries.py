"""Figures of the queries on one data set.

Shape legend: N images, Q queries, K classes, E width of the space in which queries meet pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.evaluation.diagnostics.query_observer import ObservedQueries
from queryseg.metrics.measurement import number
from queryseg.metrics.objectness import FOUND, recall
from queryseg.metrics.query_activity import NO_CLASS, normalised_entropy
from queryseg.metrics.query_groups import (
    group_sizes,
    majority_groups,
    nearest_prototypes,
    spread_within_groups,
)
from queryseg.objectives.group_alignment import similarities


@dataclass(frozen=True)
class Figure:
    """title: short; meaning: one sentence; places: decimals worth showing."""

    title: str
    meaning: str
    places: int = 2


FIGURES: Mapping[str, Figure] = {
    "active_queries": Figure("active queries", "queries of an image that are active, mean over images", 1),
    "active_share": Figure("share of queries active", "active queries of an image over all queries, mean over images"),
    "dead_queries": Figure("dead queries", "queries that are active in no image", 0),
    "usage_entropy": Figure(
        "usage entropy",
        "entropy of how often each query is active, over ln Q: 1 if all are equally often, 0 if one does everything",
    ),
    "mask_overlap": Figure(
        "mask overlap", "IoU of two active queries' masks (logit > 0) in one image, mean over pairs", 3
    ),
    "mask_overlap_same_class": Figure(
        "mask overlap, same class",
        "IoU of two active queries' masks of one class (class head) in one image, mean over pairs",
        3,
    ),
    "objectness": Figure(
        "objectness", "IoU of a class's region in an image and the best query's mask, whatever its class, mean", 3
    ),
    "outlined_regions": Figure(
        "regions outlined", "share of the classes' regions whose IoU with the best query's mask is at least 0.5"
    ),
    "classes_by_head": Figure(
        "classes, class head", "classes that at least one active query of an image stands for by the class head", 1
    ),
    "size_by_head": Figure(
        "queries per class, class head", "active queries per class that has any, mean over images and classes", 1
    ),
    "entropy_by_head": Figure(
        "class entropy, class head", "entropy of the classes that active queries stand for, over ln K"
    ),
    "absent_by_head": Figure(
        "absent classes, class head",
        "active queries of an image that stand, by the class head, for a class that it has no label of",
        1,
    ),
    "classes_by_prototype": Figure(
        "classes, prototypes", "classes whose prototype is the nearest one to at least one query of an image", 1
    ),
    "size_by_prototype": Figure(
        "group size", "queries of an image per group (same nearest prototype) that is not empty, as in GRQA", 1
    ),
    "entropy_by_prototype": Figure(
        "class entropy, prototypes", "entropy of the classes whose prototype is nearest, over ln K"
    ),
    "absent_by_prototype": Figure(
        "absent classes, prototypes",
        "queries of an image whose nearest prototype is that of a class that it has no label of",
        1,
    ),
    "compactness": Figure("compactness", "cosine similarity of a query to its nearest prototype, mean", 3),
    "margin": Figure("margin", "lead of the nearest prototype over the second nearest, mean", 3),
    "group_spread": Figure(
        "spread within groups", "standard deviation of the similarity among an image's queries of one group, mean", 3
    ),
    "class_similarity": Figure(
        "similarity of classes",
        "cosine similarity of two classes' mean pixel embeddings, mean over pairs: near 1 if classes collapse",
        3,
    ),
    "class_mean_drift": Figure(
        "drift of class means",
        "squared distance of an image's mean pixel embedding of a class to the class's prototype, mean",
        3,
    ),
    "regrouped_queries": Figure(
        "queries that change group", "share of queries that mostly belong to another group than in the first data set"
    ),
    "query_drift": Figure(
        "drift of queries", "cosine distance of a query's mean embedding to that in the first data set, mean", 3
    ),
}
"""Every figure of a data set. A group is the queries of one image with the same nearest prototype. By class head, only
active queries count; by prototype, all do, as in GRQA."""


@dataclass(frozen=True)
class Prototypes:
    """Where classes lie in a data set. vectors (K, E) of length 1; known (K,) bool: the class was seen there."""

    vectors: Tensor
    known: Tensor

    @classmethod
    def of(cls, seen: ObservedQueries) -> Prototypes:
        """Unit means over images of f_c. Source: QPrompt-R1 Eq. 4, over all images instead of a moving average."""
        total = (seen.class_means * seen.measured[..., None]).sum(0)
        return cls(F.normalize(total, dim=1), seen.measured.any(0))


@dataclass(frozen=True)
class DomainQueries:
    """What queries do on one data set. Figures are nan where nothing defines them, e.g. overlaps without two active
    queries, and all about prototypes where the source domain has no labels.

    figures       see FIGURES
    num_images    that were looked at; windows count singly
    activity      (Q,) share of images in which the query is active
    by_head       (K,) active queries per image that stand for the class by the class head
    by_prototype  (K,) queries per image whose nearest prototype is the class's
    presence      (K,) share of images with any pixel labelled so
    outlined      (K,) share of these images in which a query outlines the class's region, whatever it calls it
    sizes         (Q,) groups of 1, 2 … Q queries per image
    similarity    (Q, K) cosine similarity of queries and prototypes, mean over images; nan for unknown classes
    groups        (Q,) the class of the group to which a query mostly belongs; −1 without prototypes
    means         (Q, E) each query's mean embedding, of length 1
    distances     (Q,) cosine distance of that to the source domain's
    """

    figures: Mapping[str, float]
    num_images: int
    activity: Tensor
    by_head: Tensor
    by_prototype: Tensor
    presence: Tensor
    outlined: Tensor
    sizes: Tensor
    similarity: Tensor
    groups: Tensor
    means: Tensor
    distances: Tensor

    @property
    def dead(self) -> list[int]:
        """Numbers of the queries that are active in no image."""
        return (self.activity == 0).nonzero().flatten().tolist()

    def to_json(self, classes: ClassTable, source: DomainQueries) -> dict[str, Any]:
        """Plain values, None where nothing defines them; differences are to the source domain."""
        names = dict(zip((NO_CLASS, *range(len(classes))), (None, *classes.names), strict=True))
        return {
            "num_images": self.num_images,
            "figures": {key: number(value) for key, value in self.figures.items()},
            "difference": {key: number(value - source.figures[key]) for key, value in self.figures.items()},
            "dead": self.dead,
            "queries": {
                "active": plain(self.activity),
                "group": [names[group] for group in self.groups.tolist()],
                "distance": plain(self.distances),
                "similarity": [plain(row) for row in self.similarity],
            },
            "classes": {
                name: dict(zip(("by_head", "by_prototype", "presence", "outlined"), values, strict=True))
                for name, *values in zip(
                    classes.names,
                    *map(plain, (self.by_head, self.by_prototype, self.presence, self.outlined)),
                    strict=True,
                )
            },
            "group_sizes": {str(size): count for size, count in enumerate(plain(self.sizes), 1) if count},
        }


def domain_queries(seen: ObservedQueries, prototypes: Prototypes, source: DomainQueries | None = None) -> DomainQueries:
    """Figures of a data set; source: those of the source domain, None if this is it."""
    num_classes = seen.num_classes
    active = seen.classes != NO_CLASS
    activity = active.double().mean(0)
    similarity = similarities(seen.embeddings, prototypes.vectors)
    groups, nearest, margin = nearest_prototypes(similarity, prototypes.known)
    majority = majority_groups(groups, num_classes)
    means = F.normalize(seen.embeddings.double().mean(0), dim=1)
    source_means, source_groups = (means, majority) if source is None else (source.means, source.groups)
    distances = (means - source_means).square().sum(1) / 2  # 1 − cos, and exactly 0 for what is equal
    sizes = group_sizes(groups, num_classes)
    class_means = Prototypes.of(seen)
    squares = (seen.class_means - prototypes.vectors).square().sum(-1)
    outlined = seen.outlined[~seen.outlined.isnan()].double()
    overlaps = (seen.overlaps[:, 0] / seen.overlaps[:, 1]).tolist()
    figures = {
        "active_queries": float(activity.sum()),
        "active_share": float(activity.mean()),
        "dead_queries": float((activity == 0).sum()),
        "usage_entropy": normalised_entropy(active.sum(0)),
        "mask_overlap": overlaps[0],
        "mask_overlap_same_class": overlaps[1],
        "objectness": float(outlined.mean()),
        "outlined_regions": float((outlined >= FOUND).double().sum() / len(outlined)) if len(outlined) else nan,
        **_occupancy("head", seen.classes, seen.present),
        **_occupancy("prototype", groups, seen.present),
        "compactness": float(nearest.mean()),
        "margin": float(margin.mean()),
        "group_spread": spread_within_groups(nearest, groups, num_classes),
        "class_similarity": _mean_similarity(class_means.vectors[class_means.known]),
        "class_mean_drift": float(squares[seen.measured & prototypes.known].mean()),
        "regrouped_queries": float((majority != source_groups)[majority != NO_CLASS].double().mean()),
        "query_drift": float(distances.mean()),
    }
    assert figures.keys() == FIGURES.keys()
    return DomainQueries(
        figures,
        seen.num_images,
        activity,
        group_sizes(seen.classes, num_classes).double().mean(0),
        sizes.double().mean(0),
        seen.present.double().mean(0),
        recall(seen.outlined),
        torch.bincount(sizes.flatten(), minlength=seen.num_queries + 1)[1:].double() / seen.num_images,
        similarity.double().mean(0).masked_fill(~prototypes.known, nan),
        majority,
        means,
        distances,
    )


def _occupancy(kind: str, groups: Tensor, present: Tensor) -> dict[str, float]:
    """groups (N, Q), present (N, K). An image without any label says nothing of absent classes."""
    sizes = group_sizes(groups, present.shape[1])
    occupied = sizes > 0
    figures = {
        f"classes_by_{kind}": float(occupied.sum(1).double().mean()),
        f"size_by_{kind}": float(sizes[occupied].double().mean()),
        f"entropy_by_{kind}": normalised_entropy(sizes.sum(0)),
        f"absent_by_{kind}": float((sizes * ~present).sum(1)[present.any(1)].double().mean()),
    }
    undefined = kind == "prototype" and not occupied.any()  # there are none
    return dict.fromkeys(figures, nan) if undefined else figures


def _mean_similarity(vectors: Tensor) -> float:
    """Of every two of M vectors (M, E) of length 1; nan without a pair."""
    num = len(vectors)
    pairs = torch.ones(num, num, dtype=torch.bool).triu(1)
    return float((vectors @ vectors.T)[pairs].mean())


def plain(values: Tensor) -> list[float | None]:
    """(M,) → numbers, None for nan."""
    return [number(value) for value in values.tolist()]
