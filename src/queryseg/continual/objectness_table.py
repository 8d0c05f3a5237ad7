"""Whether queries still outline what they learned first: objectness over the steps of continual runs, side by side.

Shape legend: K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch

from queryseg.continual.continual_report import REPORT
from queryseg.data.class_split import ClassSplit
from queryseg.data.class_table import ClassTable, class_table
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
from queryseg.evaluation.svg_plot import SvgPlot, linear_ticks
from queryseg.inference.predictor import recorded_task
from queryseg.inference.run_folder import read_model, replace_file
from queryseg.metrics.measurement import number
from queryseg.metrics.objectness import FOUND

GROUPS = {"base": "classes of the first step", "old": "classes of all earlier steps"}

_MEANING = (
    f"class-agnostic recall: the share of a class's segments with which the mask of any query has an IoU of at least "
    f"{FOUND:g}, on the masks' grid, whatever that query calls them; mean over classes"
)


def is_continual(folder: Path) -> bool:
    """A folder of steps, which `queryseg train` made of a continual recipe."""
    return (folder / f"{REPORT}.json").exists()


@dataclass(frozen=True)
class ContinualFolder:
    """What a continual run's folder tells of itself.

    steps  the complete ones, in order; joint: the only one has learned all classes
    """

    folder: Path
    classes: ClassTable
    split: ClassSplit
    steps: Sequence[int]
    joint: bool = False

    @classmethod
    def read(cls, folder: Path) -> ContinualFolder:
        """Raises: CheckpointError"""
        path = folder / f"{REPORT}.json"
        try:
            content = json.loads(path.read_text())
            classes = class_table(content["recipe"]["classes"])
            steps = tuple(tuple(map(classes.names.index, step["classes"])) for step in content["split"])
            split = ClassSplit(steps, tuple(step["name"] for step in content["split"]))
            return cls(
                folder, classes, split.joined() if content["joint"] else split, [s["step"] for s in content["steps"]]
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise CheckpointError(
                f"{path} is damaged; `queryseg train` writes it again when the run goes on with --resume."
            ) from None

    def group(self, step: int, group: str) -> list[int]:
        """Label ids, see `GROUPS`; none are old in the first step."""
        return self.split.groups(len(self.split) if self.joint else step)[group]


Recalls = Mapping[int, Mapping[str, Sequence[float]]]
"""Step → data set → (K) values in 0…1, nan for classes without a segment."""


@dataclass(frozen=True)
class ObjectnessTable:
    """runs: name → its folder; recalls: name → what was found."""

    runs: Mapping[str, ContinualFolder]
    recalls: Mapping[str, Recalls]

    @property
    def data_names(self) -> list[str]:
        return list(next(iter(next(iter(self.recalls.values())).values())))

    def mean(self, run: str, step: int, name: str, group: str) -> float:
        """Over the group's classes that have segments; nan without any. name: of the data set"""
        values = [self.recalls[run][step][name][label] for label in self.runs[run].group(step, group)]
        known = [value for value in values if not isnan(value)]
        return sum(known) / len(known) if known else nan

    def grid(self, name: str) -> ScoreGrid:
        """A row per run and group, a column per step."""
        last = max(step for recalls in self.recalls.values() for step in recalls)
        rows = [
            Row(
                [run, group],
                [
                    Cell.of(Estimate(self.mean(run, step, name, group) if step in recalls else nan))
                    for step in range(1, last + 1)
                ],
            )
            for run, recalls in self.recalls.items()
            for group in GROUPS
        ]
        columns = [f"after {step}" for step in range(1, last + 1)]
        note = "; ".join(f"{group}: {meaning}" for group, meaning in GROUPS.items())
        return ScoreGrid(
            f"Objectness on {name}: segments that any query outlines, in %", ["run", "of"], columns, rows, note
        )

    def plot(self, name: str, group: str) -> str:
        """SVG: a line per run over the steps."""
        lines = {
            run: [(step, 100 * value) for step in recalls if not isnan(value := self.mean(run, step, name, group))]
            for run, recalls in self.recalls.items()
        }
        last = max(step for recalls in self.recalls.values() for step in recalls)
        top = max(5.0, 1.1 * max((value for line in lines.values() for _, value in line), default=1.0))
        title = f"{group} classes on {name}"
        plot = SvgPlot(title, (0.8, last + 0.2), (0.0, top), "step", f"{title}, % outlined")
        plot.grid(range(1, last + 1), linear_ticks(0.0, top))
        for place, (run, line) in enumerate(lines.items()):
            if len(line) > 1:
                plot.polyline(line, f"curve-{place % 6}")
            for step, value in line:
                plot.mark((step, value), f"fill-{place % 6}", f"{run} after step {step}: {value:.1f}", 4)
            plot.text((60, plot.height - 60 - 16 * (len(lines) - 1 - place)), run, f"name-{place % 6} run")
        return plot.svg()

    def to_json(self) -> dict[str, Any]:
        """Plain values in 0…1, None where there is none."""
        return {
            "meaning": _MEANING,
            "groups": dict(GROUPS),
            "runs": {
                run: {
                    "split": [
                        [self.runs[run].classes.names[label] for label in labels]
                        for labels in self.runs[run].split.steps
                    ],
                    "steps": {
                        str(step): {
                            name: {
                                "groups": {group: number(self.mean(run, step, name, group)) for group in GROUPS},
                                "classes": dict(zip(told.classes.names, map(number, values), strict=True)),
                            }
                            for name, values in found.items()
                        }
                        for step, found in recalls.items()
                    },
                }
                for run, recalls in self.recalls.items()
                for told in [self.runs[run]]
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
    runs: Mapping[str, ContinualFolder],
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

    protocol_of  a step's recipe → how images are shown to it
    num_images   looked at per data set, evenly spread; None: all
    allow        see `read_model`

    Panoptic runs are asked for single objects of things, semantic ones for whole regions.
    Raises: CheckpointError, RecipeError, InputError
    """
    if num_images is not None and num_images < 1:
        raise InputError(f"Objectness on {num_images} images is asked for; look at 1 at least.")
    chosen = {n: d if num_images is None else Selection(d, spread(len(d), num_images)) for n, d in datasets.items()}
    done, total = 0, sum(len(run.steps) for run in runs.values()) * len(datasets)
    recalls: dict[str, dict[int, dict[str, list[float]]]] = {name: {} for name in runs}
    for name, run in runs.items():
        for step in run.steps:
            loaded = read_model(run.folder / f"step_{step}", allow)
            things = [] if recorded_task(loaded.recipe) == "semantic" else loaded.classes.things
            recalls[name][step] = {}
            for data_name, dataset in chosen.items():
                observer = ObjectnessObserver(len(loaded.classes), things)
                evaluate(
                    loaded.model,
                    dataset,
                    protocol_of(loaded.recipe),
                    name=data_name,
                    device=device,
                    num_workers=num_workers,
                    observer=observer,
                )
                recalls[name][step][data_name] = observer.recall().tolist()
                done += 1
                if progress is not None:
                    progress(done, total)
    return ObjectnessTable(runs, recalls)
