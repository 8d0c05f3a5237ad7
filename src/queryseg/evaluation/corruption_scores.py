"""What corruptions leave of a model's mIoU on one data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import torch
from torch import Tensor

from queryseg.data.corruptions import CORRUPTIONS, Corrupted
from queryseg.data.dataset import SegmentationDataset
from queryseg.evaluation.estimate import Estimate, MeanIoU
from queryseg.evaluation.evaluation import Evaluation
from queryseg.metrics.measurement import number


@dataclass(frozen=True)
class CorruptedTarget:
    """A data set under a corruption: clean names the data set."""

    clean: str
    corruption: str
    severity: int


def corrupted_targets(datasets: Mapping[str, SegmentationDataset]) -> dict[str, CorruptedTarget]:
    """Of the data sets that are corruptions of others; a corrupted one that was given by itself is a target."""
    names = {id(dataset): name for name, dataset in datasets.items()}
    return {
        name: CorruptedTarget(names[id(dataset.dataset)], dataset.corruption, dataset.severity)
        for name, dataset in datasets.items()
        if isinstance(dataset, Corrupted) and id(dataset.dataset) in names
    }


class CorruptionScores:
    """Means over severities, then over corruptions, of what was evaluated.

    clean      scores of the data set as it is
    corrupted  (corruption, severity) → scores of the same images

    Source: Michaelis et al. 2019, Benchmarking Robustness in Object Detection (arXiv:1907.07484), with mIoU as the
    performance: mPC = mean over corruptions of the mean over severities; rPC = mPC / clean. Deviation: over the
    corruptions and severities that were asked for, which stand beside the score; the benchmark has all severities.
    """

    def __init__(self, clean: Evaluation, corrupted: Mapping[tuple[str, int], Evaluation]) -> None:
        assert corrupted, f"'{clean.name}' was evaluated under no corruption"
        self.clean, self.corrupted = clean, corrupted

    @property
    def corruptions(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.corrupted))

    @property
    def groups(self) -> dict[str, list[str]]:
        """Group → its corruptions among those evaluated."""
        groups: dict[str, list[str]] = {}
        for name in self.corruptions:
            groups.setdefault(CORRUPTIONS[name].group, []).append(name)
        return groups

    def severities(self, corruption: str) -> list[int]:
        return [severity for name, severity in self.corrupted if name == corruption]

    def mean(self, corruption: str) -> Estimate:
        """Over severities."""
        return self._mean([corruption])

    def group_mean(self, group: str) -> Estimate:
        """Over the group's corruptions."""
        return self._mean(self.groups[group])

    @property
    def performance(self) -> Estimate:
        """mPC, in 0…1."""
        return self._mean(self.corruptions)

    @property
    def relative_performance(self) -> Estimate:
        """rPC: 1 where nothing is lost."""
        return self._scores.estimate(lambda s: self._mean_of(self.corruptions, s) / s[-1], inf)

    def to_json(self) -> dict[str, Any]:
        return {
            "clean": number(self.clean.mean_iou),
            "corruptions": {
                name: {
                    **self.mean(name).to_json(),
                    "group": CORRUPTIONS[name].group,
                    "severities": {
                        str(level): number(self.corrupted[name, level].mean_iou) for level in self.severities(name)
                    },
                }
                for name in self.corruptions
            },
            "groups": {group: self.group_mean(group).to_json() for group in self.groups},
            "mean_performance_under_corruption": self.performance.to_json(),
            "relative_performance_under_corruption": self.relative_performance.to_json(),
        }

    @cached_property
    def _scores(self) -> MeanIoU:
        """Of everything corrupted, in order, and of the clean images last."""
        everything = [*self.corrupted.values(), self.clean]
        return MeanIoU([e.measurements["pixels"] for e in everything], same_images=True)

    def _mean(self, corruptions: Sequence[str]) -> Estimate:
        return self._scores.estimate(lambda s: self._mean_of(corruptions, s))

    def _mean_of(self, corruptions: Sequence[str], scores: Tensor) -> Tensor:
        """(M, …) → (…): every corruption counts the same, however many of its severities there are."""
        names = [name for name, _ in self.corrupted]
        return torch.stack(
            [scores[[i for i, name in enumerate(names) if name == one]].mean(0) for one in corruptions]
        ).mean(0)
