"""What SimCIS adds to a training step of a later task.

    python benchmarks/simcis_step.py [--json benchmarks/results/simcis_step.json]

SimCIS's own model, ResNet-50 with a deformable pixel decoder, 100 queries selected from pixels, 9 layers, 150 classes
of which 100 are old, on one crop per step, float32, random weights, images and labels. A step is forward pass, focal
criterion at 10 readings, backward pass and AdamW: plain training. SimCIS adds the predecessor's forward pass,
pseudo-labels, the second selection, virtual queries from a full bank and its upkeep; with decoder distillation also the
second pass of the decoder. All arms take turns in one process; medians over the rounds, and the median of the rounds'
ratios to plain training. Data loading is left out; freed memory stays in the process, as `queryseg train` sets it.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from report import write_report

from queryseg.backbones import PyramidBackbone
from queryseg.contracts import Objective
from queryseg.data.batch import Batch
from queryseg.decoders import BoxHeads, CrossAttention
from queryseg.host_memory import keep_freed_memory
from queryseg.objectives import ConsistentSelection, FocalSetCriterion, PseudoLabels, VirtualQueries
from queryseg.pixel_decoders import Deformable
from queryseg.queries import PixelSelectedQueries
from queryseg.readouts import RegionAssembly
from queryseg.segmenter import Parts, build_segmenter
from queryseg.training.references import References
from queryseg.training.step import TrainingStep, build_objectives
from queryseg.types import Dims

NUM_CLASSES, NUM_OLD = 150, 100
PROMISED = {"simcis": 1.60, "simcis_with_decoder_distillation": 1.60}
"""Times plain training, at most."""


class Learner:
    """A model in a later task, its predecessor if it needs one, its objectives and its optimiser."""

    def __init__(self, args: argparse.Namespace, arm: str) -> None:
        torch.manual_seed(0)
        self.device = torch.device(args.device)
        names = [f"class {k}" for k in range(NUM_CLASSES)]
        decoder = partial(CrossAttention, order="self_first", heads=BoxHeads)
        backbone = PyramidBackbone(args.backbone, frozen_norms=True)
        queries = partial(PixelSelectedQueries, num_queries=args.queries)
        model = build_segmenter(names, Parts(backbone, Deformable, queries, decoder, RegionAssembly))
        model = model.to(self.device).train()
        makers: dict[str, Callable[[Dims], Objective]] = {"criterion": FocalSetCriterion}
        previous = None
        if arm != "plain":
            previous = copy.deepcopy(model)
            old, current = range(NUM_OLD), range(NUM_OLD, NUM_OLD + 5)
            distilled = arm == "simcis_with_decoder_distillation"
            makers = {
                "pseudo_labels": partial(PseudoLabels, current_classes=current),
                "consistent_selection": partial(ConsistentSelection, old_classes=old, decoder_kd=distilled),
                **makers,
                "virtual_queries": partial(VirtualQueries, old_classes=old),
            }
        objectives = build_objectives(model, makers, frozenset({"previous_task"}))
        virtual = objectives.get("virtual_queries")
        if isinstance(virtual, VirtualQueries):
            labels = torch.arange(NUM_OLD).repeat_interleave(virtual.bank.length)
            virtual.bank.append(labels, torch.randn(len(labels), model.dims.width))
        self.step = TrainingStep(model, objectives, References(model, previous), 1).to(self.device)
        learning = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(learning, 1e-5, weight_decay=0.05, fused=True)

    def learn(self, batch: Batch) -> float:
        """One step; returns its seconds."""
        self._wait()
        start = time.perf_counter()
        losses = self.step(batch, 0)
        losses["loss"].backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step.after_step()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def crops(args: argparse.Namespace) -> Batch:
    """Noise with four labelled stripes of current classes, the rest unlabelled."""
    size = args.size
    label_maps = torch.full((args.batch, size, size), 255, dtype=torch.uint8)
    for stripe in range(4):
        label_maps[:, stripe * size // 8 : (stripe + 1) * size // 8] = NUM_OLD + stripe
    images = torch.randint(0, 256, (args.batch, 3, size, size), dtype=torch.uint8)
    labels = [torch.arange(NUM_OLD, NUM_OLD + 4) for _ in range(args.batch)]
    batch = Batch(images, label_maps, labels, [str(i) for i in range(args.batch)], [])
    batch.images, batch.label_maps = images.to(args.device), label_maps.to(args.device)
    batch.labels = [one.to(args.device) for one in labels]
    return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7, help="after two that are not counted")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    batch = crops(args)
    learners = {arm: Learner(args, arm) for arm in ("plain", *PROMISED)}
    times: dict[str, list[float]] = {arm: [] for arm in learners}
    for index in range(args.rounds + 2):
        arms = list(learners)
        for arm in reversed(arms) if index % 2 else arms:
            seconds = learners[arm].learn(batch)
            if index >= 2:
                times[arm].append(seconds)
    results: dict[str, object] = {"plain": {"seconds": round(statistics.median(times["plain"]), 3)}}
    for arm, promised in PROMISED.items():
        ratios = [a / b for a, b in zip(times[arm], times["plain"], strict=True)]
        results[arm] = {
            "seconds": round(statistics.median(times[arm]), 3),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "promised_ratio_at_most": promised,
        }
    print(results, flush=True)
    what = " ".join((__doc__ or "").split("\n\n")[2].split())
    sizes = {"size": args.size, "batch": args.batch, "queries": args.queries, "rounds": args.rounds}
    sizes |= {"backbone": args.backbone, "device": args.device}
    write_report(args.json, {"what": what, **sizes}, results, "timm")


if __name__ == "__main__":
    main()
