"""What the queries of a model do on one or several data sets: who speaks, for which class, and what a new domain
changes.

    from queryseg.evaluation.diagnostics import diagnose

    diagnosis = diagnose(model, {"clear": clear, "fog": fog}, Protocol())
    diagnosis.domains["fog"].figures["active_queries"]

Shape legend: Q queries, K classes, P points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.data.dataset import SegmentationDataset, layout_and_split
from queryseg.data.protocol import Protocol, ProtocolPreset, protocol_of
from queryseg.data.selection import Selection
from queryseg.errors import InputError, RecipeError
from queryseg.evaluation.diagnostics.attention_maps import AttendedImage, attended_image, check_chosen, shows_attention
from queryseg.evaluation.diagnostics.domain_queries import FIGURES, DomainQueries, Prototypes, domain_queries, plain
from queryseg.evaluation.diagnostics.query_observer import ObservedQueries, QueryObserver
from queryseg.evaluation.domain_table import DomainTable, RunFacts, evaluate_many
from queryseg.evaluation.evaluator import spread, untouched
from queryseg.metrics.principal_axes import principal_axes
from queryseg.metrics.query_activity import NO_CLASS
from queryseg.metrics.query_groups import nearest_prototypes
from queryseg.objectives.group_alignment import similarities
from queryseg.objectives.grqa import Space
from queryseg.segmenter import Segmenter

MAP_IMAGES = 12
"""Images of a data set whose queries are drawn; more would hide each other."""


@dataclass(frozen=True)
class MapPoints:
    """Queries of some images on the map: positions (P, 2), groups (P,) their nearest prototypes, active (P,) bool."""

    positions: Tensor
    groups: Tensor
    active: Tensor


@dataclass(frozen=True)
class QueryMap:
    """Queries and prototypes on the two axes along which both vary most in the source domain.

    prototypes  (K, 2), nan for unknown classes
    explained   (2,) share of the variance along each axis
    points      of every data set, on the same axes

    The prototype of the first known class is on the positive side of both axes.
    """

    prototypes: Tensor
    explained: Tensor
    points: Mapping[str, MapPoints]

    @classmethod
    def of(cls, observed: Mapping[str, ObservedQueries], prototypes: Prototypes) -> QueryMap | None:
        """None without prototypes."""
        if not prototypes.known.any():
            return None
        drawn = {name: _some_images(seen) for name, seen in observed.items()}
        known = prototypes.vectors[prototypes.known]
        source = next(iter(drawn.values())).embeddings
        axes = principal_axes([known, source.flatten(0, 1)], positive=known[0])
        points = {}
        for name, seen in drawn.items():
            groups, *_ = nearest_prototypes(similarities(seen.embeddings, prototypes.vectors), prototypes.known)
            active = seen.classes != NO_CLASS
            points[name] = MapPoints(axes.project(seen.embeddings.flatten(0, 1)), groups.flatten(), active.flatten())
        placed = axes.project(prototypes.vectors).masked_fill(~prototypes.known[:, None], torch.nan)
        return cls(placed, axes.explained, points)

    def to_json(self, classes: ClassTable) -> dict[str, Any]:
        """Prototypes only; points are for pictures."""
        placed = zip(classes.names, map(plain, self.prototypes), strict=True)
        return {"prototypes": dict(placed), "explained": plain(self.explained)}


def _some_images(seen: ObservedQueries) -> ObservedQueries:
    indices = spread(seen.num_images, MAP_IMAGES)
    return replace(seen, classes=seen.classes[indices], embeddings=seen.embeddings[indices])


@dataclass(frozen=True)
class Diagnosis:
    """One model on several data sets, of which the first one is the source domain: its class means are the prototypes,
    and drift is measured from it.

    classes  what labels mean
    domains  by name, in the order given
    map      None if no image of the source domain has enough labelled pixels of any class
    table    mIoU of the images that were looked at, with the run's facts; None during training, which has its own
    attention  where chosen queries look, in some images of each data set; {} without cross-attention
    notes    sentences that must stand beside the figures: what counts as active, how queries are told apart
    """

    classes: ClassTable
    domains: Mapping[str, DomainQueries]
    map: QueryMap | None
    notes: tuple[str, ...]
    table: DomainTable | None = None
    attention: Mapping[str, tuple[AttendedImage, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        observed: Mapping[str, ObservedQueries],
        classes: ClassTable,
        notes: tuple[str, ...] = (),
        table: DomainTable | None = None,
    ) -> Diagnosis:
        """Raises: RecipeError if the data sets were met with different numbers of queries"""
        numbers = {seen.num_queries for seen in observed.values()}
        if len(numbers) > 1:
            raise RecipeError(
                f"This model asks {min(numbers)} to {max(numbers)} queries, depending on the data set; diagnostics "
                "compare queries across data sets and need the same number everywhere."
            )
        source, *others = observed
        prototypes = Prototypes.of(observed[source])
        domains = {source: domain_queries(observed[source], prototypes)}
        domains |= {name: domain_queries(observed[name], prototypes, domains[source]) for name in others}
        return cls(classes, domains, QueryMap.of(observed, prototypes), notes, table)

    @property
    def source(self) -> str:
        """Name of the first data set."""
        return next(iter(self.domains))

    @property
    def num_queries(self) -> int:
        return len(self.domains[self.source].activity)

    def to_json(self) -> dict[str, Any]:
        """Plain values, None where nothing defines them; for the keys see `KEYS`."""
        source = self.domains[self.source]
        domains = {name: domain.to_json(self.classes, source) for name, domain in self.domains.items()}
        if self.table is not None:
            scores = self.table.to_json()["data"]
            domains = {
                name: {"mean_iou": scores[name]["mean_iou"], "data": scores[name]["source"], **content}
                for name, content in domains.items()
            }
        return {
            "source": self.source,
            "num_queries": self.num_queries,
            "notes": list(self.notes),
            "protocol": None if self.table is None else self.table.protocol,
            "model": None if self.table is None else self.table.facts.to_json(),
            "map": None if self.map is None else self.map.to_json(self.classes),
            "attention": {
                name: [{"image": one.name, "queries": list(one.queries)} for one in images]
                for name, images in self.attention.items()
            },
            "domains": domains,
        }


KEYS: Mapping[str, str] = {
    "source": "the first data set: its class means are the prototypes, and differences and drift are measured from it",
    "map.prototypes": "position of each prototype on the two axes of query_prototypes.png",
    "map.explained": "share of the variance along each of the axes",
    "attention.*": "images and queries of attention.png, per data set; none without cross-attention",
    "domains.*.data": "where the data set comes from",
    "domains.*.mean_iou": "of the images that were looked at",
    "domains.*.num_images": "images that were looked at; windows count singly",
    "domains.*.difference": "each figure less that of the source",
    "domains.*.dead": "numbers of the queries that are active in no image",
    "domains.*.queries.active": "per query, the share of images in which it is active",
    "domains.*.queries.group": "per query, the class whose prototype is nearest to it in most images",
    "domains.*.queries.distance": "per query, the cosine distance of its mean embedding to that in the source",
    "domains.*.queries.similarity": "per query and class, the cosine similarity to the prototype, mean over images",
    "domains.*.classes.*.by_head": "active queries per image that stand for the class by the class head",
    "domains.*.classes.*.by_prototype": "queries per image to which the class's prototype is the nearest",
    "domains.*.classes.*.presence": "share of images with any pixel labelled so",
    "domains.*.classes.*.outlined": (
        "share of these images in which the mask of any query, whatever its class, has an IoU of at least 0.5 with the "
        "class's region: objectness, to be compared over the tasks of a continual run"
    ),
    "domains.*.group_sizes": "number of queries in a group → such groups per image",
    **{f"domains.*.figures.{key}": figure.meaning for key, figure in FIGURES.items()},
}
"""What the keys of diagnostics.json mean."""


def query_notes(model: Segmenter, space: Space = "mask") -> tuple[str, ...]:
    """What must be known about a model to read its figures."""
    rule = 'its best class is not "no object"'
    if "no_object" not in model.heads.provides:
        rule = 'its best class score is at least 0.5, because this model has no "no object"'
    compared = "mask embeddings with the pixels' mask features"
    if space == "token":
        compared = "query contents with the image tokens of the last block"
    notes = [f"A query is active in an image if {rule}.", f"Prototypes compare {compared}, both of length 1."]
    if "selected_indices" in model.queries.provides:
        notes.append("Queries are chosen from each image: a query's number is its rank, not an identity.")
    return tuple(notes)


def diagnose(
    model: Segmenter,
    datasets: Mapping[str, SegmentationDataset],
    protocol: Protocol | ProtocolPreset,
    *,
    num_images: int | None = 100,
    space: Space = "mask",
    num_attention_images: int = 2,
    attention_queries: Sequence[int] | None = None,
    facts: RunFacts | None = None,
    sources: Mapping[str, str] | None = None,
    device: torch.device | None = None,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Look at the queries of a model on several named data sets; the first one is the source domain.

    num_images  looked at per data set, evenly spread; None: all. Every image's query embeddings are kept.
    space       where queries meet pixels, see `Space`
    num_attention_images  per data set, of which attention is drawn, where the model has cross-attention
    attention_queries     whose attention; None: the most confident ones of different classes
    Others: see `evaluate_many`.

    Raises: RecipeError if the model has no queries; InputError
    """
    if num_images is not None and num_images < 1:
        raise InputError(f"Diagnostics of {num_images} images are asked for; look at 1 at least.")
    if num_attention_images < 0:
        raise InputError(f"Attention maps of {num_attention_images} images are asked for; 0 draws none.")
    if attention_queries:
        check_chosen(model, attention_queries, max(attention_queries) + 1)
    attention: dict[str, tuple[AttendedImage, ...]] = {}
    if shows_attention(model) and num_attention_images > 0:
        with untouched(model if device is None else model.to(device)):
            for name, dataset in datasets.items():
                samples = (dataset[index] for index in spread(len(dataset), num_attention_images))
                own = protocol_of(protocol, layout_and_split(dataset)[0])
                attention[name] = tuple(attended_image(model, s, own, attention_queries) for s in samples)
    observers = {name: QueryObserver(model, space) for name in datasets}
    table = evaluate_many(
        model,
        {n: d if num_images is None else Selection(d, spread(len(d), num_images)) for n, d in datasets.items()},
        protocol,
        facts=facts,
        sources=sources,
        device=device,
        num_workers=num_workers,
        observers=observers,
        progress=progress,
    )
    observed = {name: observer.observed() for name, observer in observers.items()}
    diagnosis = Diagnosis.of(observed, table.evaluations[0].classes, query_notes(model, space), table)
    return replace(diagnosis, attention=attention)
