"""Scores of all steps of a continual run, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

from queryseg.continual.step_scores import MEASURES, StepScores
from queryseg.data.class_split import ClassSplit
from queryseg.data.class_table import ClassTable
from queryseg.evaluation.estimate import Estimate
from queryseg.evaluation.matrix.score_grid import Cell, Row, ScoreGrid
from queryseg.metrics.measurement import number

GROUPS = ("base", "old", "current", "new", "all")


@dataclass(frozen=True)
class ContinualTable:
    """split: of all steps that are planned; steps: those that are complete, in order; joint: one training of all
    classes, measured after the last step's fashion; protocol: how images of a step are chosen; shown: how validation
    images are shown."""

    classes: ClassTable
    split: ClassSplit
    steps: Sequence[StepScores]
    protocol: str = "overlapped"
    shown: str = ""
    joint: bool = False

    @property
    def data_names(self) -> list[str]:
        return list(self.steps[0].scores) if self.steps else []

    @property
    def measures(self) -> list[str]:
        """The one that the run is about first."""
        found = next(iter(self.steps[0].scores.values()), {}) if self.steps else {}
        return [measure for measure in MEASURES if measure in found]

    def place(self, scores: StepScores) -> int:
        """The step whose classes have been seen: of a joint training the last one."""
        return len(self.split) if self.joint else scores.step

    def group_scores(self, scores: StepScores, name: str, measure: str) -> dict[str, float]:
        """Group → mean over its classes, nan for a group without any."""
        groups = self.split.groups(self.place(scores))
        return {group: scores.mean(name, measure, labels) for group, labels in groups.items()}

    def average(self, name: str, measure: str) -> float:
        """Mean over all complete steps of the score of all classes seen by then (the papers' "avg")."""
        found = [self.group_scores(scores, name, measure)["all"] for scores in self.steps]
        known = [score for score in found if not isnan(score)]
        return sum(known) / len(known) if known else nan

    def forgetting_matrix(self, name: str, measure: str) -> list[list[float]]:
        """[step whose classes][after step]: nan before the classes were learned."""
        return [
            [
                scores.mean(name, measure, self.split.current(learned)) if learned <= self.place(scores) else nan
                for scores in self.steps
            ]
            for learned in range(1, len(self.split) + 1)
        ]

    def forgetting(self, name: str, measure: str) -> list[float]:
        """Of every step's classes: their best score after any step but the last, minus that after the last one; nan for
        those that have not been learned before the last step.

        Source: Chaudhry et al. 2018, Riemannian Walk for Incremental Learning, §3, forgetting.
        """
        lost = []
        for *before, last in self.forgetting_matrix(name, measure):
            known = [score for score in before if not isnan(score)]
            lost.append(max(known) - last if known else nan)
        return lost

    # ───────────────────────────── tables ─────────────────────────────

    def group_grid(self, name: str, measure: str) -> ScoreGrid:
        """After every step: base, old, current, new, all."""
        rows = [
            Row([f"{scores.step}", self._learned(scores)], [_cell(value) for value in found.values()])
            for scores in self.steps
            for found in [self.group_scores(scores, name, measure)]
        ]
        blank = [Cell("")] * (len(GROUPS) - 1)
        rows.append(Row(["mean", "of all steps"], [*blank, _cell(self.average(name, measure))]))
        note = "base: classes of the first step; old: of earlier steps; current: of this one; new: since the second"
        return ScoreGrid(
            f"{MEASURES[measure]} on {name} after every step, in %", ["step", "learned"], GROUPS, rows, note
        )

    def forgetting_grid(self, name: str, measure: str) -> ScoreGrid:
        """Rows: classes by the step that brought them; columns: after which step."""
        matrix, lost = self.forgetting_matrix(name, measure), self.forgetting(name, measure)
        rows = [
            Row(
                [f"{learned}", self.split.names[learned - 1]],
                [*map(_cell, row), Cell("" if isnan(forgotten) else f"{100 * forgotten:+.1f}")],
            )
            for learned, (row, forgotten) in enumerate(zip(matrix, lost, strict=True), 1)
        ]
        columns = [*(f"after {scores.step}" for scores in self.steps), "forgotten"]
        note = "forgotten: the best score after an earlier step minus the last one"
        title = f"{MEASURES[measure]} on {name} of every step's classes, in %"
        return ScoreGrid(title, ["step", "its classes"], columns, rows, note)

    def class_grid(self, name: str, measure: str) -> ScoreGrid:
        """Every class, in the order in which they were learned."""
        learned = {label: step for step in range(1, len(self.split) + 1) for label in self.split.current(step)}
        rows = [
            Row([self.classes.names[label], f"{step}"], [_cell(s.scores[name][measure][label]) for s in self.steps])
            for label, step in learned.items()
        ]
        columns = [f"after {scores.step}" for scores in self.steps]
        return ScoreGrid(f"{MEASURES[measure]} on {name} of every class, in %", ["class", "learned in"], columns, rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values in 0…1, None where there is none."""
        return {
            "protocol": self.protocol,
            "shown": self.shown,
            "joint": self.joint,
            "split": [
                {"name": name, "classes": [self.classes.names[label] for label in labels]}
                for name, labels in zip(self.split.names, self.split.steps, strict=True)
            ],
            "steps": [
                {
                    "step": scores.step,
                    "num_images": dict(scores.num_images),
                    "memory_bytes": dict(scores.memory),
                    "scores": {
                        name: {
                            measure: {
                                "groups": _numbers(self.group_scores(scores, name, measure)),
                                "classes": _numbers(dict(zip(self.classes.names, values, strict=True))),
                            }
                            for measure, values in found.items()
                        }
                        for name, found in scores.scores.items()
                    },
                }
                for scores in self.steps
            ],
            "summary": {
                name: {
                    measure: {
                        "average": number(self.average(name, measure)),
                        "forgetting_matrix": [
                            [number(value) for value in row] for row in self.forgetting_matrix(name, measure)
                        ],
                        "forgetting": [number(value) for value in self.forgetting(name, measure)],
                    }
                    for measure in self.measures
                }
                for name in self.data_names
            },
        }

    def _learned(self, scores: StepScores) -> str:
        return "all classes at once" if self.joint else self.split.names[scores.step - 1]


def _cell(value: float) -> Cell:
    return Cell.of(Estimate(value))


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: number(value) for name, value in values.items()}
