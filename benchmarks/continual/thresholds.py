"""Which answers of a model should become pseudo-labels? Found and false segments by the settings of `PseudoLabels`.

    python benchmarks/continual/thresholds.py runs/continual/streets_11-2_panoptic/{selected,learnable}/order_0/step_1
    python benchmarks/continual/thresholds.py runs/continual/streets_11-2_semantic/{selected,learnable}/order_0/step_1

Of panoptic runs by the least score; of semantic ones, which need none, by the share of its own mask that a query must
keep. On generated streets that no run has seen. A pseudo-label is right if a labelled segment of its class has an IoU
above 0.5 with it; things are told apart in panoptic runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from queryseg.continual.objectness_table import read_split
from queryseg.data.batch import collate
from queryseg.data.streets import Streets
from queryseg.inference.predictor import recorded_task
from queryseg.inference.run_folder import read_model
from queryseg.objectives import PseudoLabels
from queryseg.segmenter import Segmenter
from queryseg.types import Task

sys.path.append(str(Path(__file__).parents[1]))
from report import write_report

SETTINGS: Mapping[Task, Mapping[str, Sequence[float]]] = {
    "panoptic": {"threshold": (0.15, 0.2, 0.25, 0.3, 0.35, 0.4)},
    "semantic": {"overlap": (0.0, 0.25, 0.5, 0.65, 0.8)},
}
"""What is varied, by the task of a run."""
SCENES = {"domain": "clear", "seed": 2, "size": (96, 192)}
RIGHT = 0.5


class Counts:
    """(K,) of every class: labelled segments, and for each setting pseudo-labels and those of them that are right."""

    def __init__(self, values: Sequence[float], num_classes: int) -> None:
        self.values = values
        self.labelled = torch.zeros(num_classes)
        self.made = torch.zeros(len(values), num_classes)
        self.right = torch.zeros(len(values), num_classes)

    def add(self, place: int, found: tuple[Tensor, Tensor], labels: Tensor, masks: Tensor) -> None:
        """What the setting at `place` gives for one image, beside its labelled segments."""
        for label, mask in zip(*found, strict=True):
            same = masks[labels == label]
            union = (same | mask).sum((1, 2))
            self.made[place, label] += 1
            self.right[place, label] += bool(((same & mask).sum((1, 2)) > RIGHT * union).any())

    def summary(self) -> dict[str, dict[str, float]]:
        """Setting → the share of labelled segments that are found, mean over classes, and of pseudo-labels that are
        right, all classes together."""
        there = self.labelled > 0
        found = (self.right / self.labelled)[:, there].mean(1)
        right = self.right.sum(1) / self.made.sum(1)
        shares = zip(self.values, found.tolist(), right.tolist(), strict=True)
        return {str(one): {"found": round(f, 3), "right": round(r, 3)} for one, f, r in shares}


@torch.no_grad()
def count(model: Segmenter, learned: list[int], things: frozenset[int], task: Task, num_images: int) -> Counts:
    """learned: classes that the model was taught so far; others are no one's segments."""
    ((name, values),) = SETTINGS[task].items()
    counts = Counts(values, len(model.dims.class_names))
    makers = [PseudoLabels(model.dims, task=task, **{name: value}) for value in values]
    for image, labels, masks in tqdm(segments(things, num_images), total=num_images, unit="image"):
        known = torch.isin(labels, torch.tensor(learned))
        counts.labelled.index_add_(0, labels[known], torch.ones(int(known.sum())))
        answer = model(model.normalise(image)).final
        for place, maker in enumerate(makers):
            nothing = torch.zeros(image.shape[-2:], dtype=torch.bool)
            found = maker.segments(answer.class_scores[0], answer.mask_logits[0], nothing)
            counts.add(place, found, labels[known], masks[known])
    return counts


def segments(things: frozenset[int], num_images: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Images (1, 3, H, W), the classes (M,) of their segments, masks (M, H, W)."""
    for sample in Streets(num_images=num_images, **SCENES):
        batch = collate([sample], "panoptic", things)
        (target,) = batch.targets()
        yield batch.images, target.labels, target.masks


def read_step(folder: Path) -> tuple[Segmenter, list[int], frozenset[int], Task]:
    """The model of one step of a continual run, the classes that it was taught so far, those that it tells apart, and
    its task."""
    run, table = read_model(folder), read_split(folder.parent)
    last = len(table.split) if table.joint else int(folder.name.removeprefix("step_"))
    task = recorded_task(run.recipe)
    return run.model, table.split.seen(last), frozenset() if task == "semantic" else run.classes.things, task


def main() -> None:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=Path, nargs="+", help="folders of steps of continual runs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    results = {"/".join(folder.parts[-4:]): count(*read_step(folder), args.images).summary() for folder in args.steps}
    for name, found in results.items():
        print(name)
        for value, shares in found.items():
            print(f"  above {value}: {shares['found']:.1%} found, {shares['right']:.1%} right")
    write_report(args.json, {"images": args.images, **SCENES, "right_above_iou": RIGHT}, results)


if __name__ == "__main__":
    main()
