"""One model on several data sets: how far it holds outside its training domain.

Shape legend: K classes.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from queryseg import __version__
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol, ProtocolPreset
from queryseg.errors import InputError
from queryseg.evaluation.corruption_scores import CorruptedTarget, CorruptionScores, corrupted_targets
from queryseg.evaluation.estimate import Estimate
from queryseg.evaluation.evaluation import Evaluation, percent, score_text
from queryseg.evaluation.evaluator import evaluate
from queryseg.evaluation.measures import Measures, SegmentFinder, check_measurable
from queryseg.evaluation.observation import Observer
from queryseg.evaluation.provenance import LAST_STEP, checkpoint_choice
from queryseg.inference.engine import Engine, SegmentationEngine
from queryseg.metrics.measurement import number
from queryseg.metrics.retention import Retention, retention
from queryseg.segmenter import Segmenter

_CLASS_COLUMNS = 8  # data sets in the terminal's table of classes; JSON has all of them


@dataclass(frozen=True)
class RunFacts:
    """What a score belongs to.

    run         folder of the run
    parameters  of the model; None: of an exported file, which does not tell
    recipe      resolved, as in the run's recipe.yaml; {} if the model does not come from a run
    checkpoint  how it was chosen
    """

    run: str
    parameters: int | None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = LAST_STEP
    versions: Mapping[str, str] = field(
        default_factory=lambda: {
            "queryseg": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        }
    )

    @classmethod
    def of(cls, model: Segmenter, run: str | Path = "", recipe: Mapping[str, Any] | None = None) -> RunFacts:
        choice = checkpoint_choice(Path(run), recipe) if run and recipe else LAST_STEP
        return cls(str(run), sum(p.numel() for p in model.parameters()), recipe or {}, choice)

    @property
    def steps(self) -> int | None:
        return (self.recipe.get("training") or {}).get("steps")

    @property
    def seed(self) -> int | None:
        return self.recipe.get("seed")

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "parameters": self.parameters,
            "steps": self.steps,
            "seed": self.seed,
            "checkpoint": self.checkpoint,
            "versions": dict(self.versions),
        }


@dataclass(frozen=True)
class DomainTable:
    """Evaluations in the order in which they were asked for, all under one protocol or preset.

    seen      names of data sets from the domain that the model was trained on; the others are unseen
    sources   name → where the data set comes from, in the caller's words (a data file, a split)
    warnings  what a reader must know before trusting a score, in sentences (see `provenance_warnings`)
    corrupted  name → what it is a corruption of, for data sets that are one; they tell robustness, not another domain
    """

    evaluations: Sequence[Evaluation]
    seen: frozenset[str]
    facts: RunFacts
    sources: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    corrupted: Mapping[str, CorruptedTarget] = field(default_factory=dict)

    @property
    def protocols(self) -> dict[str, Protocol]:
        """Of every data set: a preset may show them differently."""
        return {e.name: e.protocol for e in self.evaluations}

    @property
    def protocol(self) -> str:
        """In words, once if it is the same for all data sets."""
        if len(set(self.protocols.values())) == 1:
            return str(self.evaluations[0].protocol)
        return "; ".join(f"{name}: {protocol}" for name, protocol in self.protocols.items())

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.evaluations[0].class_names

    @property
    def targets(self) -> list[Evaluation]:
        """Data sets as they are, without corruptions."""
        return [e for e in self.evaluations if e.name not in self.corrupted]

    @property
    def unseen(self) -> list[Evaluation]:
        """Targets that are not from the training domain."""
        return [e for e in self.targets if e.name not in self.seen]

    def domain_of(self, name: str) -> str:
        """Of a data set, in one word."""
        if name in self.corrupted:
            return "corrupted"
        return "training" if name in self.seen else "unseen"

    @cached_property
    def corruptions(self) -> dict[str, CorruptionScores]:
        """Target → what its corruptions leave of its mIoU, of targets that were evaluated under any."""
        found = {e.name: e for e in self.evaluations}
        scores: dict[str, dict[tuple[str, int], Evaluation]] = {}
        for name, one in self.corrupted.items():
            scores.setdefault(one.clean, {})[one.corruption, one.severity] = found[name]
        return {clean: CorruptionScores(found[clean], corrupted) for clean, corrupted in scores.items()}

    @property
    def mean_unseen(self) -> float:
        """Mean of the unseen targets' mIoU, each counting the same whatever its size; nan if there is none."""
        return fmean(e.mean_iou for e in self.unseen) if self.unseen else float("nan")

    @property
    def means(self) -> list[tuple[str, str, Estimate]]:
        """What tables show below the data sets, with the domain that it is of: the mean over unseen targets, if there
        are several, and every target's mean performance under corruption (mPC)."""
        unseen = [("mean", "unseen", Estimate(self.mean_unseen))] if len(self.unseen) > 1 else []
        found = self.corruptions.items()
        return [*unseen, *((f"mPC, {target}", "corrupted", scores.performance) for target, scores in found)]

    def to_json(self) -> dict[str, Any]:
        """Plain values; scores in 0…1."""
        return {
            "protocol": self.protocol,
            "warnings": list(self.warnings),
            "mean_iou_unseen": None if isnan(self.mean_unseen) else self.mean_unseen,
            "mean_performance_under_corruption": {
                target: found.performance.to_json() for target, found in self.corruptions.items()
            },
            "data": {
                e.name: {
                    "seen_domain": e.name in self.seen,
                    "corruption_of": self.corrupted[e.name].clean if e.name in self.corrupted else None,
                    "source": self.sources.get(e.name),
                    "mean_iou_retention": self._retention_json(e.name),
                    **e.to_json(),
                }
                for e in self.evaluations
            },
            "model": self.facts.to_json(),
        }

    def _retention_json(self, name: str) -> dict[str, Any] | None:
        found = self.retention(name)
        if found is None:
            return None
        return {"value": number(found.value), "interval": [number(bound) for bound in found.interval]}

    def __rich__(self) -> Group:
        """Two tables for a terminal; classes are rows of the second, so that many of them fit 80 columns."""
        domains = Table(title="mIoU in %, with 95 % intervals over images", caption=self.caption, min_width=60)
        domains.add_column("data set")
        splits = any(e.split is not None for e in self.evaluations)
        if splits:
            domains.add_column("split")
        domains.add_column("domain")
        for title in ("images", "mIoU", "interval", "pixel accuracy"):
            domains.add_column(title, justify="right")
        for e in self.evaluations:
            low, high = e.mean_iou_interval
            interval = f"{percent(low)} – {percent(high)}"
            named = [escape(e.name), *([escape(e.split or "–")] if splits else [])]
            scores = [percent(e.mean_iou), interval, percent(e.pixel_accuracy)]
            domains.add_row(*named, self.domain_of(e.name), f"{e.num_images:,}", *scores)
        if self.means:
            domains.add_section()
        for title, domain, estimate in self.means:
            named = [escape(title), *([""] if splits else [])]
            domains.add_row(*named, domain, "", percent(estimate.value), estimate.interval_text, "")
        shown = self.evaluations[:_CLASS_COLUMNS]
        rest = (
            f", first {len(shown)} of {len(self.evaluations)} data sets" if len(shown) < len(self.evaluations) else ""
        )
        classes = Table(title=f"IoU per class in %{rest}")
        classes.add_column("class")
        for e in shown:
            classes.add_column(escape(e.name), justify="right")
        for k, name in enumerate(self.class_names):
            classes.add_row(escape(name), *(percent(float(e.iou[k])) for e in shown))
        measures = [self._measures()] if self.evaluations[0].measures else []
        warnings = (f"[bold yellow]Warning:[/] {escape(text)}" for text in self.warnings)
        return Group(domains, classes, *measures, *warnings)

    def _measures(self) -> Table:
        """Every score with its interval; scores are rows, so that many of them fit."""
        table = Table(title="All measures, with 95 % intervals over images", caption=self._rules())
        table.add_column("measure")
        table.add_column("score")
        for e in self.evaluations:
            table.add_column(escape(e.name), justify="right")
        for name, measured in self.evaluations[0].measurements.items():
            for place, score in enumerate(measured.scores()):
                found = [e.measurements[name] for e in self.evaluations]
                cells = (score_text(m.scores()[score], m.interval(score), m.metric.limits(score)) for m in found)
                table.add_row("" if place else spelt(name), spelt(score), *cells)
            table.add_section()
        return table

    def _rules(self) -> str:
        """Settings of the measures, which must stand beside their scores."""
        settings = {name: measured.metric.settings for name, measured in self.evaluations[0].measures.items()}
        rules = (
            f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in stated.items())
            for name, stated in settings.items()
        )
        return "; ".join(["in %, likelihood in nats, Brier score in 0 … 2", *rules])

    def retention(self, name: str, measure: str = "pixels", score: str = "mean_iou") -> Retention | None:
        """A score on a data set from elsewhere, or on a corrupted one, over the same score on the training domain; None
        unless that is exactly one data set."""
        sources = [e for e in self.targets if e.name in self.seen]
        target = next((e for e in self.evaluations if e.name == name), None)
        if target is None or len(sources) != 1 or target is sources[0]:
            return None
        return retention(target.measurements[measure], sources[0].measurements[measure], score)

    @property
    def caption(self) -> str:
        """What must stand beside every score."""
        return f"protocol: {self.protocol}; checkpoint: {self.facts.checkpoint}"


def spelt(name: str) -> str:
    """A key of the results as people write it: "boundary_iou" → "boundary IoU"."""
    known = {"iou": "IoU", "pq": "PQ", "sq": "SQ", "rq": "RQ", "brier": "Brier"}
    return " ".join(known.get(word, word) for word in name.split("_"))


def evaluate_many(
    model: Segmenter | SegmentationEngine,
    datasets: Mapping[str, SegmentationDataset],
    protocol: Protocol | ProtocolPreset,
    *,
    seen: Collection[str] | None = None,
    facts: RunFacts | None = None,
    sources: Mapping[str, str] | None = None,
    device: torch.device | None = None,
    num_workers: int = 0,
    num_examples: int = 0,
    measures: Measures = (),
    find_segments: SegmentFinder | None = None,
    observers: Mapping[str, Observer] | None = None,
    warnings: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> DomainTable:
    """Evaluate on several named data sets.

    seen      names of those from the training domain; None: the first one
    facts     of the run; None: what the model itself tells
    sources   name → where the data set comes from, for JSON and reports
    observers name → who is shown every image of that data set
    warnings  that stay with the table
    progress  called with (images done, images in all), over all data sets
    Others: see `evaluate`.

    Raises: InputError
    """
    if not datasets:
        raise InputError("There is no data set to evaluate on; give at least one as NAME=DATA.yaml.")
    seen = frozenset([next(iter(datasets))] if seen is None else seen)
    if unknown := seen - datasets.keys():
        raise InputError(f"'{min(unknown)}' is said to be the training domain, but given are: {', '.join(datasets)}.")
    check_measurable(measures, datasets)
    total, done = sum(map(len, datasets.values())), 0
    evaluations = []
    for name, dataset in datasets.items():

        def shifted(images: int, _: int, before: int = done) -> None:
            assert progress is not None
            progress(before + images, total)

        evaluations.append(
            evaluate(
                model,
                dataset,
                protocol,
                name=name,
                device=device,
                num_workers=num_workers,
                num_examples=num_examples,
                measures=measures,
                find_segments=find_segments,
                observer=(observers or {}).get(name),
                progress=None if progress is None else shifted,
            )
        )
        done += len(dataset)
    segmenter = model.model if isinstance(model, Engine) else model
    own = RunFacts.of(segmenter) if isinstance(segmenter, Segmenter) else RunFacts("", None)
    return DomainTable(evaluations, seen, facts or own, sources or {}, warnings, corrupted_targets(datasets))
