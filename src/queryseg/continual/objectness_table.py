"""Whether queries still outline what they learned first: objectness over the steps of continual runs, side by side.

Shape legend: K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch

from queryseg.continual.continual_report import NUM_COLORS, REPORT, plot_over_steps
from queryseg.continual.continual_table import ContinualTable
from queryseg.continual.step_scores import StepScores
from queryseg.data.class_split import ClassSplit
from queryseg.data.class_table import class_table
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol, ProtocolPreset
from queryseg.data.selection import Selection
from queryseg.errors import CheckpointError, InputError
from queryseg.evaluation.diagnostics.objectness import ObjectnessObserver
from queryseg.evaluation.estimate import Estimate
from queryseg.evaluation.evaluator import evaluate, spread
from queryseg.evaluation.matrix.matrix_report import grid_html
from queryseg.evaluation.matrix.score_grid import Cell, Row, ScoreGrid
from queryseg.evaluation.page import definitions, section, write_page
from queryseg.inference.predictor import recorded_task
from queryseg.inference.run_folder import read_model, replace_file
from queryseg.metrics.measurement import number
from queryseg.metrics.objectness import FOUND

GROUPS = {"base": "classes of the first step", "old": "classes of all earlier steps"}

_MEASURE = "objectness"
_MEANING = (
    f"class-agnostic recall: the share of a class's segments with which the mask of any query has an IoU of at least "
    f"{FOUND:g}, on the masks' grid, whatever that query calls them; mean over classes"
)


def is_continual(folder: Path) -> bool:
    """A folder of steps, which `queryseg train` made of a continual recipe."""
    return (folder / f"{REPORT}.json").exists()


def read_split(folder: Path) -> ContinualTable:
    """What a continual run's folder tells of its steps: those that are complete, without scores.

    Raises: CheckpointError
    """
    path = folder / f"{REPORT}.json"
    try:
        content = json.loads(path.read_text())
        classes = class_table(content["recipe"]["classes"])
        steps = tuple(tuple(map(classes.names.index, step["classes"])) for step in content["split"])
        split = ClassSplit(steps, tuple(step["name"] for step in content["split"]))
        complete = [StepScores(entry["step"], {}, {}) for entry in content["steps"]]
        return ContinualTable(classes, split, complete, joint=content["joint"])
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no continual run: it has no {path.name}; give the folder that training class by class wrote."
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{path} is damaged; `queryseg train` writes it again when the run goes on with --resume."
        ) from None


@dataclass(frozen=True)
class ObjectnessTable:
    """runs: name → its steps, whose scores hold the measure "objectness"."""

    runs: Mapping[str, ContinualTable]

    @property
    def data_names(self) -> list[str]:
        return next(iter(self.runs.values())).data_names

    @property
    def last(self) -> int:
        """Of the steps of all runs."""
        return max(scores.step for table in self.runs.values() for scores in table.steps)

    def means(self, run: str, name: str, group: str) -> dict[int, float]:
        """Step → mean over the group's classes that have segments; nan without any. name: of the data set"""
        table = self.runs[run]
        return {scores.step: table.group_scores(scores, name, _MEASURE)[group] for scores in table.steps}

    def grid(self, name: str) -> ScoreGrid:
        """A row per run and group, a column per step."""
        steps = range(1, self.last + 1)
        rows = [
            Row([run, group], [Cell.of(Estimate(means.get(step, nan))) for step in steps])
            for run in self.runs
            for group in GROUPS
            for means in [self.means(run, name, group)]
        ]
        note = "; ".join(f"{group}: {meaning}" for group, meaning in GROUPS.items())
        title = f"Objectness on {name}: segments that any query outlines, in %"
        return ScoreGrid(title, ["run", "of"], [f"after {step}" for step in steps], rows, note)

    def plot(self, name: str, group: str) -> str:
        """SVG: a line per run over the steps."""
        lines = {
            run: [(step, 100 * value) for step, value in self.means(run, name, group).items() if not isnan(value)]
            for run in self.runs
        }
        title = f"{group} classes on {name}"
        plot = plot_over_steps(title, f"{title}, % outlined", lines, self.last)
        for place, run in enumerate(lines):
            plot.text((60, plot.height - 60 - 16 * (len(lines) - 1 - place)), run, f"name-{place % NUM_COLORS} run")
        return plot.svg()

    def to_json(self) -> dict[str, Any]:
        """Plain values in 0…1, None where there is none."""
        return {
            "meaning": _MEANING,
            "groups": dict(GROUPS),
            "runs": {run: self._run_json(run, table) for run, table in self.runs.items()},
        }

    def _run_json(self, run: str, table: ContinualTable) -> dict[str, Any]:
        names = table.classes.names
        return {
            "split": [[names[label] for label in labels] for labels in table.split.steps],
            "steps": {
                str(scores.step): {
                    name: {
                        "groups": {group: number(self.means(run, name, group)[scores.step]) for group in GROUPS},
                        "classes": dict(zip(names, map(number, found[_MEASURE]), strict=True)),
                    }
                    for name, found in scores.scores.items()
                }
                for scores in table.steps
            },
        }

    def write(self, folder: Path) -> None:
        """folder/objectness.json and objectness.html. Raises: InputError, CheckpointError if they cannot be written"""
        replace_file(folder / "objectness.json", json.dumps(self.to_json(), indent=1).encode())
        parts = []
        for name in self.data_names:
            plots = "".join(self.plot(name, group) for group in GROUPS)
            parts.append(section(f"On {name}", f'<div class="charts">{plots}</div>{grid_html(self.grid(name))}'))
        parts.append(section("What this is", definitions({"objectness": _MEANING, **GROUPS})))
        lead = f"{', '.join(self.runs)}: what queries outline after every step."
        write_page(folder / "objectness.html", "Objectness over the steps", lead, parts)


def objectness_over_steps(
    folders: Mapping[str, Path],
    datasets: Mapping[str, SegmentationDataset],
    protocol_of: Callable[[Mapping[str, Any]], Protocol | ProtocolPreset],
    *,
    num_images: int | None = 100,
    allow: Iterable[str] = (),
    device: torch.device | None = None,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ObjectnessTable:
    """Ask the model of every complete step of every run.

    folders      name → folder of a continual run
    protocol_of  a step's recipe → how images are shown to it
    num_images   looked at per data set, evenly spread; None: all
    allow        see `read_model`

    Panoptic runs are asked for single objects of things, semantic ones for whole regions.
    Raises: CheckpointError, RecipeError, InputError
    """
    if num_images is not None and num_images < 1:
        raise InputError(f"Objectness on {num_images} images is asked for; look at 1 at least.")
    runs = {name: read_split(folder) for name, folder in folders.items()}
    chosen = {n: d if num_images is None else Selection(d, spread(len(d), num_images)) for n, d in datasets.items()}
    done, total = 0, sum(len(table.steps) for table in runs.values()) * len(datasets)
    for run, table in runs.items():
        asked = []
        for step in (scores.step for scores in table.steps):
            loaded = read_model(folders[run] / f"step_{step}", allow)
            things = [] if recorded_task(loaded.recipe) == "semantic" else loaded.classes.things
            found: dict[str, dict[str, list[float]]] = {}
            for name, dataset in chosen.items():
                observer = ObjectnessObserver(len(loaded.classes), things)
                evaluate(
                    loaded.model,
                    dataset,
                    protocol_of(loaded.recipe),
                    name=name,
                    device=device,
                    num_workers=num_workers,
                    observer=observer,
                )
                found[name] = {_MEASURE: observer.recall().tolist()}
                done += 1
                if progress is not None:
                    progress(done, total)
            asked.append(StepScores(step, found, {name: len(dataset) for name, dataset in chosen.items()}))
        runs[run] = replace(table, steps=asked)
    return ObjectnessTable(runs)
