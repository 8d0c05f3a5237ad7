"""What FASeg costs beside Mask2Former, and what reading little of the finest level saves.

    python benchmarks/faseg.py [--json benchmarks/results/faseg.json] [--only forward|memory|flops]

forward  FASeg and Mask2Former on ResNet-50, 512², batch 1, eager float32, eval mode, random weights: uint8 image to
         labels, in turns in one process.
memory   The most that one training step (forward, set criterion, backward) of each row of Tables 6 and 7 holds on top
         of the weights: all tensors that operations made and that are still alive (on a GPU: PyTorch's own count).
         Small images and batches keep the order: --memory-size, --memory-batch.
flops    Multiply–adds of one 512² image by PyTorch's counter, without content: with every reading, as in training and
         as the paper counts, and as when it answers.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from report import write_report

from queryseg.benchmarking.arithmetic import FlopCount
from queryseg.benchmarking.live_memory import peak_bytes
from queryseg.benchmarking.rounds import take_turns, timed
from queryseg.data.batch import collate
from queryseg.data.streets import Streets
from queryseg.host_memory import keep_freed_memory
from queryseg.inference.engine import Engine
from queryseg.objectives import SetCriterion
from queryseg.recipe_file import build_untrained, read_recipe, resolve
from queryseg.segmenter import Segmenter
from queryseg.training.references import References
from queryseg.training.step import TrainingStep, build_objectives

RECIPE = Path(__file__).parents[1] / "recipes" / "faseg" / "ade20k_r50.yaml"
MASK2FORMER: Mapping[str, Any] = {
    "model.pixel_decoder": "queryseg.pixel_decoders.Deformable",
    "model.queries": {"class_path": "queryseg.queries.LearnableQueries", "init_args": {"position": True}},
    "model.decoder": "queryseg.decoders.CrossAttention",
}
READINGS: Mapping[str, Mapping[str, Any]] = {
    "mask2former": MASK2FORMER,
    "vanilla": {"model.decoder.context": "all"},
    "random": {"model.decoder.context": "random"},
    "row_column": {"model.decoder.context": "row_column"},
    "hrca": {},
    "hrca_one_in_16": {"model.decoder.omega": 16},
    "hrca_one_in_64": {"model.decoder.omega": 64},
}
"""Rows of Tables 6 and 7, and Mask2Former beside them."""
PROMISED_FORWARD = 1.15


def made(changes: Mapping[str, Any], device: str | torch.device) -> Segmenter:
    torch.manual_seed(0)
    with torch.device(device):
        return build_untrained(resolve(read_recipe(RECIPE, values=dict(changes))))


def forward(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of both, and the median of the rounds' own ratios."""
    names = ("mask2former", "hrca")
    engines = [Engine(made(READINGS[name], device).eval()) for name in names]
    image = Streets("clear", 1, 0, (args.size, args.size))[0].image[None].to(device)

    def task(engine: Engine) -> Mapping[str, float]:
        with torch.inference_mode():
            return {"forward": timed(lambda: engine(image), device)}

    times = take_turns([lambda engine=engine: task(engine) for engine in engines], args.rounds, 3)
    base, ours = (found["forward"] for found in times.seconds)
    ratios = sorted(b / a for a, b in zip(base, ours, strict=True))
    quarter = len(ratios) // 4
    return {
        "mask2former_seconds": round(statistics.median(base), 4),
        "faseg_seconds": round(statistics.median(ours), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(ratios[quarter], 3), round(ratios[-1 - quarter], 3)],
        "promised_ratio_at_most": PROMISED_FORWARD,
        "settled": times.settled,
    }


def memory(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """MiB per row."""
    streets = Streets("clear", args.memory_batch, 0, (args.memory_size, args.memory_size))
    batch = collate([streets[i] for i in range(args.memory_batch)])
    labels = [present.to(device) for present in batch.labels]
    batch = replace(batch, images=batch.images.to(device), label_maps=batch.label_maps.to(device), labels=labels)
    found = {}
    for name, changes in READINGS.items():
        model = made(changes, device).train()
        step = TrainingStep(model, build_objectives(model, {"criterion": SetCriterion}), References(model), 1)

        def learn(step: TrainingStep = step, model: Segmenter = model) -> None:
            step(batch, 0)["loss"].backward()
            step.after_step()
            model.zero_grad()

        learn()  # what is made once and kept does not count
        found[name] = round(peak_bytes(learn, device) / 2**20, 1)
        print("memory", name, found[name], flush=True)
    return found


def flops(args: argparse.Namespace) -> dict[str, Any]:
    """10⁹ multiply–adds per row: {"every reading", "answering"}."""
    found = {}
    for name, changes in READINGS.items():
        model = made(changes, "meta")
        images = torch.zeros(1, 3, args.size, args.size, device="meta")
        counted = {}
        for key, training in (("every_reading", True), ("answering", False)):
            with torch.no_grad(), FlopCount() as count:
                model.train(training)(images)
            counted[key] = round(count.total / 2e9, 2)
        found[name] = counted
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory-size", type=int, default=512)
    parser.add_argument("--memory-batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("forward", "memory", "flops"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    device = torch.device(args.device)
    results: dict[str, Any] = {}
    for name, measure in (
        ("flops", lambda: flops(args)),
        ("forward", lambda: forward(args, device)),
        ("memory", lambda: memory(args, device)),
    ):
        if args.only in (None, name):
            results[name] = measure()
            print(name, results[name], flush=True)
    names = ("size", "rounds", "memory_size", "memory_batch", "device")
    write_report(args.json, {name: getattr(args, name) for name in names}, results, "timm")


if __name__ == "__main__":
    main()
