"""Memory and time of one training step with every adapter, beside full fine-tuning.

    python benchmarks/adapters.py [--json benchmarks/results/adapters.json]

ViT-L/16, 512², batch 1, 19 classes, float32, random weights, one street. Under a linear layer that classifies patches,
so that figures speak of the trunk and its adapter alone (these are promised); and under QPrompt (100 queries; Rein with
its link to them), whose upsampler adds the same to every arm. A step is forward pass, loss (cross-entropy; set
criterion), backward pass and AdamW, whose moments exist since the first step.
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
import torch.nn.functional as F
from report import write_report
from torch import Tensor, nn

from queryseg.adapters import FADA, Frozen, LoRA, Rein, SoMA
from queryseg.backbones import PlainViT
from queryseg.data.batch import Batch, collate
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
from queryseg.types import IGNORE

ARMS: dict[str, Any] = {"full": None, "frozen": Frozen, "rein": Rein, "soma": SoMA, "fada": FADA, "lora": LoRA}
PROMISED = {"frozen": 0.28, "soma": 0.50, "lora": 0.50, "rein": 0.65}
"""Largest peak of memory over that of full fine-tuning, under a linear layer."""
HEADS = ("linear", "qprompt")


def peak_mib() -> float:
    """The most memory that this process held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class LinearStep(nn.Module):
    """Patches → classes by one linear layer, enlarged to pixels."""

    def __init__(self, backbone: PlainViT) -> None:
        super().__init__()
        self.backbone = backbone
        self.classify = nn.Linear(backbone.dims.embed, len(CITYSCAPES.names))
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(3, 1, 1))

    def forward(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """As `TrainingStep`."""
        end = self.backbone((batch.images - self.mean) / self.std, self.backbone.dims.depth).trunk
        logits = self.classify(self.backbone.finish(end).patches).permute(0, 3, 1, 2)
        logits = F.interpolate(logits, batch.label_maps.shape[-2:], mode="bilinear")
        return {"loss": F.cross_entropy(logits, batch.label_maps.long(), ignore_index=IGNORE)}

    def after_step(self) -> None:
        """Nothing."""


def training_step(arm: str, head: str, backbone: PlainViT) -> LinearStep | TrainingStep:
    """The model and its loss. First values of adapters cost a minute of decompositions and change neither memory nor
    time."""
    kind = ARMS[arm]
    if head == "linear":
        if kind is not None:
            backbone.attach(kind(backbone.dims, link=False) if kind is Rein else kind(backbone.dims), initialise=False)
        return LinearStep(backbone)
    queries: Any = LinkedQueries if kind is Rein else partial(LearnableQueries, num_queries=100)
    parts = Parts(backbone, Identity, queries, QueryInjection, Mixture, adapter=kind)
    segmenter = build_segmenter(CITYSCAPES.names, parts, initialise=False)
    objectives = build_objectives(segmenter, {"criterion": SetCriterion})
    return TrainingStep(segmenter, objectives, References(segmenter), 100)


def measure(arm: str, head: str, model: str, size: int, steps: int) -> dict[str, float]:
    """One arm, in this process."""
    imported = peak_mib()
    batch = collate([Streets("clear", 1, 0, (size, size))[0]])
    torch.manual_seed(0)
    backbone = PlainViT(model, patch_size=16, image_size=size)
    step = training_step(arm, head, backbone).train()
    learning = [p for p in step.parameters() if p.requires_grad]
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


def compare(head: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All arms under one head, each in a process of its own."""
    results: dict[str, dict[str, float]] = {}
    for arm in args.arms:
        own = [f"--{key}={getattr(args, key)}" for key in ("model", "size", "steps")]
        command = [sys.executable, __file__, "--arm", arm, "--heads", head, *own]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        results[arm] = found = json.loads(told.stdout.splitlines()[-1])
        if "full" in results:
            found["memory_ratio"] = round(found["peak_mib"] / results["full"]["peak_mib"], 3)
            found["time_ratio"] = round(found["seconds"] / results["full"]["seconds"], 3)
        if head == "linear" and arm in PROMISED:
            found["promised_memory_ratio_at_most"] = PROMISED[arm]
        print(head, arm, found, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_large_patch14_dinov2")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3, help="at least 2")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        print(json.dumps(measure(args.arm, args.heads[0], args.model, args.size, args.steps)))
        return
    results = {head: compare(head, args) for head in args.heads}
    what = " ".join((__doc__ or "").split("\n\n")[2].split())
    write_report(
        args.json, {"what": what, "model": args.model, "size": args.size, "steps": args.steps}, results, "timm"
    )


if __name__ == "__main__":
    main()
