"""What a model can do after one step of a continual run.

Shape legend: K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import CheckpointError
from queryseg.evaluation.evaluation import Evaluation
from queryseg.inference.run_folder import replace_file
from queryseg.metrics.measurement import number

SCORES = "scores.json"
"""In a step's folder once it is trained and measured."""

MEASURES = {"pq": "PQ", "miou": "mIoU"}


@dataclass(frozen=True)
class StepScores:
    """step     from 1
    scores      data set → measure ("pq", "miou") → (K) values in 0…1, nan for classes that are not measured
    num_images  data set → images that were looked at
    memory      what is kept for the next step besides the model → bytes
    origin      the run that this step was taken from, if it was not trained here
    """

    step: int
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    num_images: Mapping[str, int]
    memory: Mapping[str, int] = field(default_factory=dict)
    origin: str | None = None

    def mean(self, name: str, measure: str, labels: Sequence[int]) -> float:
        """Over those of these classes that are measured; nan without any. name: of the data set"""
        values = [self.scores[name][measure][label] for label in labels]
        known = [value for value in values if not isnan(value)]
        return sum(known) / len(known) if known else nan

    def write(self, folder: Path) -> None:
        """folder/scores.json, whole at any moment."""
        content = {
            "step": self.step,
            "scores": {
                name: {measure: [number(value) for value in values] for measure, values in found.items()}
                for name, found in self.scores.items()
            },
            "num_images": dict(self.num_images),
            "memory": dict(self.memory),
            "origin": self.origin,
        }
        replace_file(folder / SCORES, json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> StepScores | None:
        """None if the step is not complete. Raises: CheckpointError"""
        try:
            content: dict[str, Any] = json.loads((folder / SCORES).read_text())
            scores = {
                name: {measure: [nan if v is None else float(v) for v in values] for measure, values in found.items()}
                for name, found in content["scores"].items()
            }
            return cls(content["step"], scores, content["num_images"], content["memory"], content["origin"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{folder / SCORES} is damaged; delete it, and the step is measured again with --resume."
            ) from None


def class_scores(evaluation: Evaluation, seen: Sequence[int]) -> dict[str, list[float]]:
    """Measure → (K) values of the classes seen so far; nan for all others.

    Pixels whose label is still to come count nowhere in IoU. A class has an IoU where it is labelled, and a PQ where it
    is labelled or predicted.

    Source: SimCIS spec §5.
    """
    known = torch.zeros(len(evaluation.classes), dtype=torch.bool)
    known[list(seen)] = True
    true, labelled, _ = evaluation.pooled.double()
    predicted = evaluation.confusion[known].sum(0)  # where a later class is labelled, no prediction is wrong
    iou = (true / (labelled + predicted - true)).where(known & (labelled > 0), torch.nan)
    found: dict[str, Tensor] = {"miou": iou}
    if "panoptic" in evaluation.measures:
        found = {"pq": evaluation.measures["panoptic"].per_class()["pq"].where(known, torch.nan), **found}
    return {measure: values.tolist() for measure, values in found.items()}
