"""How many queries outline one segment, and how sure of its class is the surest of them?

    python benchmarks/continual/crowding.py runs/continual/streets_11-2_panoptic/{selected,learnable}/order_2/step_1

Training matches one query with each segment and asks all others to name no class. If k queries outline a segment and
nothing tells which of them will be matched, then each is right with probability 1/k, and the focal loss is least at a
score that falls with k (`undecided_score`). On generated streets that no run has seen; a query outlines a segment from
an IoU above 0.5 on.

Shape legend: Q queries, K classes, M segments, h×w the image.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from thresholds import RIGHT, SCENES, read_step, segments
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss
from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))
from report import write_report

MOST = 4
"""Segments with this many queries or more are counted together."""


def undecided_score(k: int) -> float:
    """The score of least focal loss (α = 0.25, γ = 2) for a query that is matched once in k times."""
    logits = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    matched, other = (sigmoid_focal_loss(logits, torch.full_like(logits, wanted)) for wanted in (1.0, 0.0))
    return float(logits[(matched / k + other * (1 - 1 / k)).argmin()].sigmoid())


def crowds(outlines: Tensor, class_scores: Tensor, labels: Tensor, masks: Tensor) -> list[tuple[int, float]]:
    """outlines (Q, h, w) bool, class_scores (Q, K), labels (M,), masks (M, h, w) bool → of every segment: how many
    queries outline it, and their highest score of its class, 0 without any."""
    ours, theirs = outlines.flatten(1).float(), masks.flatten(1).float()
    shared = ours @ theirs.T
    on_it = shared > RIGHT * (ours.sum(1)[:, None] + theirs.sum(1) - shared)
    best = torch.where(on_it, class_scores[:, labels], 0.0).amax(0)
    return list(zip(on_it.sum(0).tolist(), best.tolist(), strict=True))


@torch.no_grad()
def measure(folder: Path, num_images: int) -> dict[str, Any]:
    """folder: one step of a continual run. Segments of classes that it was taught are looked at."""
    model, learned, things, _ = read_step(folder)
    found: list[tuple[int, float]] = []
    for image, labels, masks in tqdm(segments(things, num_images), total=num_images, unit="image"):
        known = torch.isin(labels, torch.tensor(learned))
        answer = model(model.normalise(image)).final
        outlines = F.interpolate(answer.mask_logits, image.shape[-2:], mode="bilinear", align_corners=False)[0] > 0
        found += crowds(outlines, answer.class_scores[0], labels[known], masks[known])
    return summary(found)


def summary(found: list[tuple[int, float]]) -> dict[str, Any]:
    """By the number of queries: segments, and the mean of their highest scores."""
    outlined = [(min(k, MOST), score) for k, score in found if k]
    by_queries = {}
    for number in sorted({k for k, _ in outlined}):
        scores = [score for k, score in outlined if k == number]
        by_queries[str(number)] = {"segments": len(scores), "score": round(fmean(scores), 3)}
    return {"segments": len(found), "outlined": len(outlined), "by_queries": by_queries}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=Path, nargs="+", help="folders of steps of continual runs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    undecided = {str(k): round(undecided_score(k), 3) for k in range(1, MOST + 1)}
    results = {"/".join(folder.parts[-4:]): measure(folder, args.images) for folder in args.steps}
    for name, found in results.items():
        print(f"{name}: {found['outlined']} of {found['segments']} segments are outlined")
        for number, group in found["by_queries"].items():
            print(f"  by {number}: {group['segments']}, score {group['score']} (undecided: {undecided[number]})")
    protocol = {"images": args.images, **SCENES, "outlined_above_iou": RIGHT, "undecided_score": undecided}
    write_report(args.json, protocol, results)


if __name__ == "__main__":
    main()
