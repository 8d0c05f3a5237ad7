"""What the set criterion costs: its share of a training step, and its time against Hugging Face's Mask2Former loss.

    python benchmarks/criterion.py [--json benchmarks/results/criterion.json]

QPrompt on ViT-S/16, float32, random weights; street-like label maps with 10 to 15 classes each. One round times, in one
process, a whole step (forward, criterion, backward, AdamW), then in turns, several times, the criterion alone (forward
and backward to the logits that the model gives) and Hugging Face's loss on the same logits. Medians over all rounds.
Hugging Face's loss gets its masks as floats, as it needs them; that conversion is not counted.

Shape legend: B images, Q queries, K classes, H×W pixels, M segments of one image.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from report import write_report
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from queryseg.backbones.plain_vit import PlainViT
from queryseg.contracts import Model, Reference, Step
from queryseg.decoders.query_injection import QueryInjection
from queryseg.objectives.set_criterion import SetCriterion
from queryseg.pixel_decoders.identity import Identity
from queryseg.queries.learnable import LearnableQueries
from queryseg.readouts.mixture import Mixture
from queryseg.segmenter import Parts, Segmenter, build_segmenter
from queryseg.types import IGNORE, Output, Target

NUM_CLASSES = 19
SKY, TREE, BUILDING, ROAD, WALK, CAR = 10, 8, 2, 0, 1, 13


def street(size: int, seed: int) -> Tensor:
    """(H, W) int64: sky over buildings and trees over pavement and road, before them cars, poles and small things."""
    draw = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> int:
        return int(size * (low + (high - low) * torch.rand((), generator=draw).item()))

    labels = torch.full((size, size), SKY)
    horizon = between(0.4, 0.5)
    for left in range(0, size, size // 8):
        labels[between(0.05, 0.35) : horizon, left : left + size // 8] = BUILDING if between(0, 2) < size else TREE
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    below = rows >= horizon
    labels[below] = WALK
    labels[below & ((columns - size / 2).abs() < size * 0.1 + (rows - horizon))] = ROAD
    labels[between(0.93, 0.97) :] = IGNORE  # the bonnet
    small = torch.randperm(NUM_CLASSES, generator=draw)[: int(torch.randint(7, 10, (), generator=draw))]
    for label in [CAR, CAR, TREE, *small.tolist()] * 2:
        top, left = between(0.25, 0.75), between(0, 0.9)
        labels[top : top + between(0.02, 0.2), left : left + between(0.01, 0.15)] = label
    return labels


def qprompt(num_queries: int, size: int) -> Segmenter:
    parts = Parts(
        PlainViT("vit_small_patch16_224", image_size=size),
        Identity,
        partial(LearnableQueries, num_queries=num_queries),
        QueryInjection,
        Mixture,
    )
    return build_segmenter([f"class {k}" for k in range(NUM_CLASSES)], parts)


def no_reference(name: str) -> Reference:
    raise AssertionError(name)


class Contest:
    """The three things that are timed, on the same batch."""

    def __init__(self, size: int, batch: int, num_queries: int) -> None:
        self.model = qprompt(num_queries, size).train()
        self.criterion = SetCriterion(self.model.dims)
        config = Mask2FormerConfig(num_labels=NUM_CLASSES)
        assert (config.train_num_points, config.class_weight, config.mask_weight) == (12544, 2.0, 5.0)
        self.reference = Mask2FormerLoss(config, {})
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, weight_decay=0.05)
        self.images = torch.randn(batch, 3, size, size)
        self.targets = [Target.semantic(street(size, seed)) for seed in range(batch)]
        self.float_masks = [t.masks.float() for t in self.targets]
        model: Model = self.model
        self.at = Step(0, 1, self.images, model, no_reference)
        self.output = self.leaves()

    def leaves(self) -> Output:
        with torch.no_grad():
            output = self.model(self.images)
        readings = [
            replace(p, mask_logits=p.mask_logits.clone(), class_logits=p.class_logits.clone())
            for p in output.predictions
        ]
        for reading in readings:
            reading.mask_logits.requires_grad_()
            reading.class_logits.requires_grad_()
        return replace(output, predictions=readings)

    def total(self, output: Output) -> Tensor:
        losses = self.criterion.losses(output, self.targets, self.at)
        return torch.stack([self.criterion.weights[name] * value for name, value in losses.items()]).sum()

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.total(self.model(self.images))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def ours(self) -> float:
        return self.alone(self.total(self.output))

    def theirs(self) -> float:
        final = self.output.final
        labels = [t.labels for t in self.targets]
        losses = self.reference(final.mask_logits, final.class_logits, self.float_masks, labels)
        weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
        return self.alone(torch.stack([weights[name] * value for name, value in losses.items()]).sum())

    def alone(self, loss: Tensor) -> float:
        torch.autograd.grad(loss, [self.output.final.mask_logits, self.output.final.class_logits])
        return loss.item()


def seconds(run: Callable[[], float], seed: int) -> float:
    torch.manual_seed(seed)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="image side in pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7, help="after one that is not counted")
    parser.add_argument("--turns", type=int, default=5, help="of the two losses, per round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    contest = Contest(args.size, args.batch, args.queries)
    times: dict[str, list[float]] = {"step": [], "criterion": [], "huggingface": []}
    turns = [("step", contest.step), *[("criterion", contest.ours), ("huggingface", contest.theirs)] * args.turns]
    for index in range(args.rounds + 1):
        contest.output = contest.leaves()
        for name, run in turns:
            elapsed = seconds(run, index)
            if index:
                times[name].append(elapsed)
    median = {name: statistics.median(values) for name, values in times.items()}
    results = {
        "step_s": round(median["step"], 4),
        "criterion_s": round(median["criterion"], 4),
        "huggingface_s": round(median["huggingface"], 4),
        "criterion_share_of_step": round(median["criterion"] / median["step"], 4),
        "criterion_over_huggingface": round(median["criterion"] / median["huggingface"], 4),
        "promised_share_at_most": 0.08,
    }
    protocol = {
        "what": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "model": f"QPrompt, vit_small_patch16_224, {args.queries} queries, float32, eager",
        "images": f"{args.batch} x 3 x {args.size} x {args.size}",
        "segments_per_image": [len(t.labels) for t in contest.targets],
        "points": contest.criterion.num_points,
        "rounds": args.rounds,
        "turns_per_round": args.turns,
    }
    for name, value in results.items():
        print(f"{name:28s}{value:10.4f}")
    write_report(args.json, protocol, results, "timm", "scipy", "transformers")


if __name__ == "__main__":
    main()
