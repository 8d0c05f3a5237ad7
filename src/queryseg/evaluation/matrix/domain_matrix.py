"""Several models on several data sets: sources × targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from typing import Any

import torch

from queryseg.data.class_table import ClassTable
from queryseg.evaluation.class_agreement import check_same_classes
from queryseg.evaluation.corruption_scores import CorruptionScores
from queryseg.evaluation.domain_table import DomainTable
from queryseg.evaluation.estimate import UNDEFINED, Estimate, MeanIoU
from queryseg.evaluation.evaluation import Evaluation
from queryseg.evaluation.matrix.latency import Latency
from queryseg.evaluation.matrix.published_points import PublishedPoint
from queryseg.metrics.measurement import number

_MOST_NAMES = 5  # of targets in a sentence


@dataclass(frozen=True)
class DomainMatrix:
    """Tables of one or several runs on the same data sets, in the order in which they were asked for.

    tables     name of a run → its evaluations; all with the same data sets and classes
    latencies  of runs that were timed, all in the same rounds
    published  what others have reported, to be drawn beside the runs
    """

    tables: Mapping[str, DomainTable]
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    published: Sequence[PublishedPoint] = ()

    def __post_init__(self) -> None:
        assert self.tables, "a matrix has at least one run"
        check_same_classes({run: table.class_names for run, table in self.tables.items()})
        names = {tuple(e.name for e in table.evaluations) for table in self.tables.values()}
        assert len(names) == 1, "all runs are evaluated on the same data sets"

    @property
    def runs(self) -> list[str]:
        return list(self.tables)

    @property
    def classes(self) -> ClassTable:
        return self._first.evaluations[0].classes

    @property
    def targets(self) -> list[str]:
        """Data sets as they are, without corruptions."""
        return [e.name for e in self._first.targets]

    @property
    def _first(self) -> DomainTable:
        return next(iter(self.tables.values()))

    def evaluation(self, run: str, target: str) -> Evaluation:
        return self._evaluations[run][target]

    @cached_property
    def _evaluations(self) -> dict[str, dict[str, Evaluation]]:
        return {run: {e.name: e for e in table.evaluations} for run, table in self.tables.items()}

    def is_seen(self, run: str, target: str) -> bool:
        """Whether the target is from the run's training domain."""
        return target in self.tables[run].seen

    def unseen(self, run: str) -> list[str]:
        return [target for target in self.targets if not self.is_seen(run, target)]

    def mean_unseen(self, run: str) -> Estimate:
        """Mean of mIoU over the targets that are unseen by this run, each counting the same; undefined without any."""
        found = [self.evaluation(run, target).measurements["pixels"] for target in self.unseen(run)]
        return MeanIoU(found, same_images=False).mean() if found else UNDEFINED

    def retention(self, run: str) -> Estimate:
        """Mean over unseen targets ÷ mIoU on the training domain; undefined unless that is exactly one target."""
        seen = [target for target in self.targets if self.is_seen(run, target)]
        if len(seen) != 1 or not self.unseen(run):
            return UNDEFINED
        found = [self.evaluation(run, target).measurements["pixels"] for target in (*self.unseen(run), *seen)]
        return MeanIoU(found, same_images=False).ratio()

    def conditions(self, target: str) -> list[str]:
        """Of its images, where the benchmark scores them apart."""
        return list(self.evaluation(self.runs[0], target).conditions)

    @cached_property
    def corruptions(self) -> dict[str, dict[str, CorruptionScores]]:
        """Target → run → what corruptions leave of its mIoU."""
        return {
            target: {run: table.corruptions[target] for run, table in self.tables.items()}
            for target in self._first.corruptions
        }

    def shifted(self, run: str) -> Estimate:
        """mIoU away from the training images: the mean over unseen targets or, if there are none, mPC, the mean under
        corruption of the first target; undefined if there is neither."""
        if self.unseen(run) or not self.corruptions:
            return self.mean_unseen(run)
        return next(iter(self.corruptions.values()))[run].performance

    @property
    def shift(self) -> str:
        """What `shifted` is a mean of, in words."""
        unseen = [tuple(self.unseen(run)) for run in self.runs]
        if not any(unseen):
            return f"{next(iter(self.corruptions), 'nothing')} under corruption"
        if len(set(unseen)) > 1:
            return "every run's own unseen targets"
        if len(unseen[0]) > _MOST_NAMES:
            return f"mean of {len(unseen[0])} unseen targets"
        return f"unseen {', '.join(unseen[0])}"

    def pareto_front(self) -> list[str]:
        """Runs, fastest first, than which no other is at least as fast and at least as accurate under shift."""
        points = {run: (found.median, self.shifted(run).value) for run, found in self.latencies.items()}
        return pareto_front(points)

    @property
    def warnings(self) -> list[str]:
        """Of all runs, each once; with the names of the runs that it holds for if there are several runs."""
        texts = dict.fromkeys(text for table in self.tables.values() for text in table.warnings)
        if len(self.tables) == 1:
            return list(texts)
        named = {text: [run for run, table in self.tables.items() if text in table.warnings] for text in texts}
        return [f"{', '.join(runs)}: {text}" for text, runs in named.items()]

    @property
    def captions(self) -> list[str]:
        """What must stand beside the scores: once if it is the same for all runs."""
        captions = {run: table.caption for run, table in self.tables.items()}
        if len(set(captions.values())) == 1:
            return [self._first.caption]
        return [f"{run}: {caption}" for run, caption in captions.items()]

    def to_json(self) -> dict[str, Any]:
        """Everything that is made of several scores; the scores themselves are in the tables."""
        return {
            "targets": self.targets,
            "runs": {
                run: {
                    "training_domain": [target for target in self.targets if self.is_seen(run, target)],
                    "mean_iou": {target: number(self.evaluation(run, target).mean_iou) for target in self.targets},
                    "mean_iou_interval": {
                        target: [number(bound) for bound in self.evaluation(run, target).mean_iou_interval]
                        for target in self.targets
                    },
                    "mean_iou_unseen_targets": self.mean_unseen(run).to_json(),
                    "retention": self.retention(run).to_json(),
                    "corruptions": {target: found[run].to_json() for target, found in self.corruptions.items()},
                    "latency": self.latencies[run].to_json() if run in self.latencies else None,
                }
                for run in self.runs
            },
            "shifted_mean_iou": {"of": self.shift, **{run: self.shifted(run).to_json() for run in self.runs}},
            "pareto_front": self.pareto_front(),
            "published": [point.to_json() for point in self.published],
        }


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of (cost, score) that no other beats in one without losing in the other, cheapest first. Points without a
    score are left out; of equal points all stay."""
    known = {name: point for name, point in points.items() if not isnan(point[1])}

    def beaten(cost: float, score: float) -> bool:
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in known.values())

    return sorted((name for name, point in known.items() if not beaten(*point)), key=lambda name: known[name])


def image_order(matrix: DomainMatrix, target: str) -> list[int]:
    """Images of a target, the worst first: by the mean over runs of the image's own mIoU. Images without a labelled
    pixel are left out."""
    scores = torch.stack([matrix.evaluation(run, target).image_iou for run in matrix.runs]).mean(0)
    order: list[int] = scores.argsort(stable=True).tolist()
    return [i for i in order if not isnan(float(scores[i]))]
