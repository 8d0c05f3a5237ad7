"""What the whole path costs over the bare backbone.

    python benchmarks/latency.py [--json benchmarks/results/latency.json]

Whole path: uint8 image → normalise, pad, ViT-S/16 with queries in its last block, upsampler, heads, readout, argmax →
uint8 label map, QPrompt with 100 queries and 19 classes. Bare backbone: timm's own forward_features on the normalised
image. Eager, float32, batch 1, 512×1024, random weights. The two take turns in one process, the first of them in
alternation; medians over the rounds, and the median of the rounds' ratios. Decoding, drawing and files are left out.
Freed memory stays in the process for both, as `queryseg VERB` sets it; --default-allocator leaves that out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
from report import write_report
from torch.utils.flop_counter import FlopCounterMode

from queryseg.backbones import PlainViT
from queryseg.data.class_table import CITYSCAPES
from queryseg.decoders import QueryInjection
from queryseg.host_memory import keep_freed_memory
from queryseg.inference.engine import Engine
from queryseg.pixel_decoders import Identity
from queryseg.queries import LearnableQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, build_segmenter

NAME = "vit_small_patch16_224"


def seconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def giga_operations(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15, help="after two that are not counted")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--default-allocator", action="store_true", help="hand freed memory back, as glibc does")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    size, device = tuple(args.size), torch.device(args.device)
    kept = not args.default_allocator and keep_freed_memory()
    torch.manual_seed(0)
    parts = Parts(
        PlainViT(NAME, image_size=size),
        Identity,
        partial(LearnableQueries, num_queries=args.queries),
        QueryInjection,
        Mixture,
    )
    engine = Engine(build_segmenter(CITYSCAPES.names, parts)).eval().to(device)
    bare = timm.create_model(NAME, img_size=size, num_classes=0).eval().to(device)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, device=device)
    normalised = engine.model.normalise(image)
    runs: dict[str, Callable[[], object]] = {
        "whole_path": lambda: engine(image),
        "bare_backbone": lambda: bare.forward_features(normalised),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(args.rounds + 2):
        for name in sorted(runs, reverse=bool(index % 2)):
            elapsed = seconds(runs[name], device)
            if index >= 2:
                times[name].append(elapsed)
    ratios = [a / b for a, b in zip(times["whole_path"], times["bare_backbone"], strict=True)]
    flops = {name: giga_operations(run) for name, run in runs.items()}
    results = {
        "whole_path_ms": round(1000 * statistics.median(times["whole_path"]), 1),
        "bare_backbone_ms": round(1000 * statistics.median(times["bare_backbone"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "ratio_by_flops": round(flops["whole_path"] / flops["bare_backbone"], 3),
        "promised_ratio_at_most": 1.30,
    }
    for name, value in results.items():
        print(f"{name:24s}{value}")
    protocol = {
        "what": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "size": list(size),
        "queries": args.queries,
        "rounds": args.rounds,
        "freed_memory_kept": kept,
    }
    write_report(args.json, protocol, results, "timm", "torchvision")


if __name__ == "__main__":
    main()
