"""How sure must a model be for its answers to become pseudo-labels? Found and false segments by threshold.

    python benchmarks/continual/thresholds.py runs/continual/streets_11-2_panoptic/{selected,learnable}/order_0/step_1

On generated streets that no run has seen. A pseudo-label is right if a labelled segment of its class has an IoU above
0.5 with it; things are told apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from queryseg.continual.objectness_table import read_split
from queryseg.data.batch import collate
from queryseg.data.streets import Streets
from queryseg.inference.run_folder import read_model
from queryseg.objectives import PseudoLabels
from queryseg.segmenter import Segmenter

sys.path.append(str(Path(__file__).parents[1]))
from report import write_report

THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
SCENES = {"domain": "clear", "seed": 2, "size": (96, 192)}
RIGHT = 0.5


class Counts:
    """(K,) of every class: labelled segments, and for each threshold pseudo-labels and those of them that are right."""

    def __init__(self, num_classes: int) -> None:
        self.labelled = torch.zeros(num_classes)
        self.made = torch.zeros(len(THRESHOLDS), num_classes)
        self.right = torch.zeros(len(THRESHOLDS), num_classes)

    def add(self, place: int, found: tuple[Tensor, Tensor], labels: Tensor, masks: Tensor) -> None:
        """What the threshold at `place` gives for one image, beside its labelled segments."""
        for label, mask in zip(*found, strict=True):
            same = masks[labels == label]
            union = (same | mask).sum((1, 2))
            self.made[place, label] += 1
            self.right[place, label] += bool(((same & mask).sum((1, 2)) > RIGHT * union).any())

    def summary(self) -> dict[str, dict[str, float]]:
        """Threshold → the share of labelled segments that are found, mean over classes, and of pseudo-labels that are
        right, all classes together."""
        there = self.labelled > 0
        found = (self.right / self.labelled)[:, there].mean(1)
        right = self.right.sum(1) / self.made.sum(1)
        shares = zip(THRESHOLDS, found.tolist(), right.tolist(), strict=True)
        return {str(one): {"found": round(f, 3), "right": round(r, 3)} for one, f, r in shares}


@torch.no_grad()
def count(model: Segmenter, learned: list[int], things: frozenset[int], num_images: int) -> Counts:
    """learned: classes that the model was taught so far; others are no one's segments."""
    counts = Counts(len(model.dims.class_names))
    makers = [PseudoLabels(model.dims, threshold=threshold) for threshold in THRESHOLDS]
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


def read_step(folder: Path) -> tuple[Segmenter, list[int], frozenset[int]]:
    """The model of one step of a continual run, the classes that it was taught so far, and those that are things."""
    run, table = read_model(folder), read_split(folder.parent)
    last = len(table.split) if table.joint else int(folder.name.removeprefix("step_"))
    return run.model, table.split.seen(last), run.classes.things


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
        for threshold, shares in found.items():
            print(f"  above {threshold}: {shares['found']:.1%} found, {shares['right']:.1%} right")
    write_report(args.json, {"images": args.images, **SCENES, "right_above_iou": RIGHT}, results)


if __name__ == "__main__":
    main()
