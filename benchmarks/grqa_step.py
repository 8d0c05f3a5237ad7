"""What GRQA adds to a training step.

    python benchmarks/grqa_step.py [--json benchmarks/results/grqa_step.json]

QPrompt on ViT-S/16, 512², batch 4, 100 queries, 19 classes, float32, random weights and images. A step is forward pass,
set criterion, backward pass, AdamW and, with GRQA, its losses, the reference's forward pass, the moving average and the
prototype bank. With and without take turns in one process; medians over the rounds, and the median of the rounds'
ratios. Once with all weights learning, once with a frozen backbone, whose tokens the reference shares. Data loading is
left out; freed memory stays in the process, as `queryseg train` sets it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from report import write_report

from queryseg.backbones import PlainViT
from queryseg.contracts import Objective
from queryseg.data.batch import Batch, collate
from queryseg.data.class_table import CITYSCAPES
from queryseg.data.streets import Streets
from queryseg.decoders import QueryInjection
from queryseg.host_memory import keep_freed_memory
from queryseg.objectives import GRQA, SetCriterion
from queryseg.pixel_decoders import Identity
from queryseg.queries import LearnableQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, build_segmenter
from queryseg.training.references import References
from queryseg.training.step import TrainingStep, build_objectives
from queryseg.types import Dims

NAME = "vit_small_patch16_224"
PROMISED = {"full_fine_tuning": 1.40, "frozen_backbone": 1.15}


class Learner:
    """A model, its objectives and its optimiser in the second stage of a run."""

    def __init__(self, args: argparse.Namespace, frozen: bool, grqa: bool) -> None:
        torch.manual_seed(0)
        backbone = PlainViT(NAME, image_size=args.size, frozen=frozen)
        queries = partial(LearnableQueries, num_queries=args.queries)
        model = build_segmenter(CITYSCAPES.names, Parts(backbone, Identity, queries, QueryInjection, Mixture)).train()
        makers: dict[str, Callable[[Dims], Objective]] = {"criterion": SetCriterion}
        if grqa:
            makers["grqa"] = partial(GRQA, start=0.0)
        self.step = TrainingStep(model, build_objectives(model, makers), References(model), 1)
        learning = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(learning, 1e-5, weight_decay=0.05, fused=True)

    def learn(self, batch: Batch) -> float:
        """One step; returns its seconds."""
        start = time.perf_counter()
        losses = self.step(batch, 0)
        losses["loss"].backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step.after_step()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7, help="after two that are not counted")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    streets = Streets("clear", args.batch, 0, (args.size, args.size))
    batch = collate([streets[i] for i in range(args.batch)])
    results: dict[str, object] = {}
    for setting, promised in PROMISED.items():
        learners = {name: Learner(args, setting == "frozen_backbone", name == "with") for name in ("without", "with")}
        times: dict[str, list[float]] = {name: [] for name in learners}
        for index in range(args.rounds + 2):
            for name in sorted(learners, reverse=bool(index % 2)):
                seconds = learners[name].learn(batch)
                if index >= 2:
                    times[name].append(seconds)
        ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
        results[setting] = {
            "seconds_with": round(statistics.median(times["with"]), 3),
            "seconds_without": round(statistics.median(times["without"]), 3),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "promised_ratio_at_most": promised,
        }
        print(setting, results[setting], flush=True)
    what = " ".join((__doc__ or "").split("\n\n")[2].split())
    sizes = {"size": args.size, "batch": args.batch, "queries": args.queries, "rounds": args.rounds}
    write_report(args.json, {"what": what, **sizes}, results, "timm")


if __name__ == "__main__":
    main()
