"""What steps of continual runs answer on generated streets that none of them has seen: what the scripts that look into
steps have in common.

Shape legend: Q queries, M segments, H×W the image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from queryseg.continual.objectness_table import read_split
from queryseg.data.batch import collate
from queryseg.data.streets import Streets
from queryseg.errors import QuerysegError
from queryseg.inference.predictor import recorded_task
from queryseg.inference.run_folder import read_model
from queryseg.segmenter import Segmenter
from queryseg.types import Prediction, Task

sys.path.append(str(Path(__file__).parents[1]))
from report import write_report

SCENES: dict[str, Any] = {"domain": "clear", "seed": 2, "size": (96, 192)}
SAME = 0.5
"""What a model answers and a labelled segment are the same above this IoU."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A trained step. learned: classes that it was taught so far; things: those of which it tells objects apart."""

    folder: Path
    model: Segmenter
    task: Task
    learned: list[int]
    things: frozenset[int]

    @classmethod
    def read(cls, folder: Path) -> Step:
        """folder: of one step of a continual run"""
        run, table = read_model(folder), read_split(folder.parent)
        last = len(table.split) if table.joint else int(folder.name.removeprefix("step_"))
        task = recorded_task(run.recipe)
        things = frozenset[int]() if task == "semantic" else run.classes.things
        return cls(folder, run.model, task, table.split.seen(last), things)

    @torch.no_grad()
    def answers(self, num_images: int) -> Iterator[tuple[Prediction, Tensor, Tensor]]:
        """Of each street: what the model ends with, and the labelled segments of learned classes, their classes (M,)
        and masks (M, H, W)."""
        for sample in tqdm(Streets(num_images=num_images, **SCENES), total=num_images, unit="image"):
            batch = collate([sample], "panoptic", self.things)
            (target,) = batch.targets()
            known = torch.isin(target.labels, torch.tensor(self.learned))
            yield self.model(self.model.normalise(batch.images)).final, target.labels[known], target.masks[known]


def outlines(answer: Prediction, masks: Tensor) -> Tensor:
    """(Q, H, W) bool: where each query sees its segment, on the grid of labelled masks (M, H, W)."""
    return F.interpolate(answer.mask_logits, masks.shape[-2:], mode="bilinear", align_corners=False)[0] > 0


def ask_steps(
    description: str | None,
    measure: Callable[[Step, int], Figures],
    lines: Callable[[Figures], Iterable[str]],
    protocol: Mapping[str, Any],
) -> None:
    """The whole script: measure the steps that the command line names, print and write.

    measure   step and number of images → figures
    lines     how they are printed
    protocol  what the file tells besides scenes
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=Path, nargs="+", help="folders of steps of continual runs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    try:
        steps = {"/".join(folder.parts[-4:]): Step.read(folder) for folder in args.steps}
        results = {name: measure(step, args.images) for name, step in steps.items()}
    except QuerysegError as error:
        parser.error(str(error))
    for name, found in results.items():
        print(name, *lines(found), sep="\n  ")
    write_report(args.json, {"images": args.images, **SCENES, **protocol}, results)
