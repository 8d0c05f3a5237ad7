"""Memory and time of one training step with every adapter, beside full fine-tuning.

    python benchmarks/adapters.py [--json benchmarks/results/adapters.json]

QPrompt on ViT-L/16 (Rein with its link to queries), 512², batch 1, 100 queries, 19 classes, float32, random weights,
one street. A step is forward pass, set criterion, backward pass and AdamW, whose moments exist since the first step.
Every arm runs in a process of its own: memory is the process's peak above the one it had when everything was imported;
seconds are those of the fastest step but the first. Data loading is left out. Linux: the C library is told to hand
every tensor of 64 KiB or more back when it is freed, so that the peak holds no gaps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from report import write_report

from queryseg.adapters import FADA, Frozen, LoRA, Rein, SoMA
from queryseg.backbones import PlainViT
from queryseg.data.batch import collate
from queryseg.data.class_table import CITYSCAPES
from queryseg.data.streets import Streets
from queryseg.decoders import QueryInjection
from queryseg.objectives import SetCriterion
from queryseg.pixel_decoders import Identity
from queryseg.queries import LearnableQueries, LinkedQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, build_segmenter
from queryseg.training.references import References
from queryseg.training.step import TrainingStep, build_objectives

ARMS: dict[str, Any] = {"full": None, "frozen": Frozen, "rein": Rein, "soma": SoMA, "fada": FADA, "lora": LoRA}
PROMISED = {"frozen": 0.28, "soma": 0.50, "lora": 0.50, "rein": 0.65}
"""Largest peak of memory over that of full fine-tuning."""


def peak_mib() -> float:
    """The most memory that this process held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(arm: str, model: str, size: int, steps: int) -> dict[str, float]:
    """One arm, in this process."""
    imported = peak_mib()
    street = Streets("clear", 1, 0, (size, size))
    batch = collate([street[0]])
    torch.manual_seed(0)
    queries: Any = LinkedQueries if ARMS[arm] is Rein else partial(LearnableQueries, num_queries=100)
    backbone = PlainViT(model, patch_size=16, image_size=size)
    parts = Parts(backbone, Identity, queries, QueryInjection, Mixture, adapter=ARMS[arm])
    # first values cost a minute of decompositions and change neither memory nor time
    segmenter = build_segmenter(CITYSCAPES.names, parts, initialise=False).train()
    step = TrainingStep(segmenter, build_objectives(segmenter, {"criterion": SetCriterion}), References(segmenter), 100)
    learning = [p for p in segmenter.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, 1e-5, weight_decay=0.05, fused=True)
    seconds = []
    for index in range(steps):
        start = time.perf_counter()
        step(batch, index)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        step.after_step()
        seconds.append(time.perf_counter() - start)
    return {
        "peak_mib": round(peak_mib() - imported, 1),
        "seconds": round(min(seconds[1:]), 2),
        "trained_million": round(sum(p.numel() for p in learning) / 1e6, 3),
        "trained_in_trunk_million": round(sum(p.numel() for p in backbone.parameters() if p.requires_grad) / 1e6, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_large_patch14_dinov2")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3, help="at least 2")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(measure(args.arm, args.model, args.size, args.steps)))
        return
    results: dict[str, dict[str, float]] = {}
    for arm in args.arms:
        own = [f"--{key}={getattr(args, key)}" for key in ("model", "size", "steps")]
        command = [sys.executable, __file__, "--arm", arm, *own]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        results[arm] = found = json.loads(told.stdout.splitlines()[-1])
        if "full" in results:
            found["memory_ratio"] = round(found["peak_mib"] / results["full"]["peak_mib"], 3)
            found["time_ratio"] = round(found["seconds"] / results["full"]["seconds"], 3)
        if arm in PROMISED:
            found["promised_memory_ratio_at_most"] = PROMISED[arm]
        print(arm, found, flush=True)
    what = " ".join((__doc__ or "").split("\n\n")[2].split())
    write_report(
        args.json, {"what": what, "model": args.model, "size": args.size, "steps": args.steps}, results, "timm"
    )


if __name__ == "__main__":
    main()
