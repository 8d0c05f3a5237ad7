"""Pre-trains a small ViT on generated streets of many looks: the stand-in for a foundation model.

    python benchmarks/generalization/pretrain.py --out runs/generalization/pretrained.safetensors

The backbone learns to tell the depth and the edges of streets whose colours, textures, exposure and layout change from
image to image (`queryseg.data.streets.looks`); it sees no label, no weather, no lamp and nothing of `other_city`. Fixed
seeds and a fixed number of threads: the same machine writes the same file again. Its figures are those of held-out
looks. Minutes include rendering.

Shape legend: B images, H×W pixels, h×w cells of 4×4 pixels.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from queryseg.backbones import PlainViT
from queryseg.cli.output import progress_bar, write_json
from queryseg.data.streets.looks import render_look
from queryseg.host_memory import keep_freed_memory

SIZE = (128, 256)
CELL = 4
FARTHEST = 150.0
"""Metres; the street ends before, and the sky counts as this far."""
TRAIN_SEED, TEST_SEED = 10, 11

BACKBONE = {"name": "vit_tiny_patch16_224", "image_size": SIZE, "stem": "convolution", "options": {"depth": 6}}
"""Arguments of PlainViT; every arm that starts from this file has the same."""


def look(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(seed, index) → image (3, H, W) uint8 and distances of its cells (h, w) float16, the nearest of each."""
    scene = render_look(*job, SIZE)
    depth = np.minimum(scene.depth, FARTHEST).reshape(SIZE[0] // CELL, CELL, SIZE[1] // CELL, CELL)
    return scene.image.transpose(2, 0, 1), np.stack([depth.min((1, 3)), depth.max((1, 3))]).astype(np.float16)


def render_looks(seed: int, number: int, title: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) uint8 and the nearest and farthest distance in each cell (N, 2, h, w) float16."""
    images, depths = [], []
    with get_context("spawn").Pool(2) as pool, progress_bar(title) as progress:
        for done, (image, depth) in enumerate(pool.imap(look, [(seed, i) for i in range(number)], 32), 1):
            images.append(torch.from_numpy(image))
            depths.append(torch.from_numpy(depth))
            progress(done, number)
    return torch.stack(images), torch.stack(depths)


class Geometry(nn.Module):
    """A ViT and one linear layer: log depth and edge logit of every cell."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = PlainViT(**BACKBONE)
        self.cells = self.backbone.patch // CELL
        self.head = nn.Linear(self.backbone.dims.embed, 2 * self.cells**2)
        self.register_buffer("mean", 255 * torch.tensor(self.backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(self.backbone.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, 2, h, w)"""
        backbone = self.backbone
        features = backbone((images - self.mean) / self.std, backbone.dims.depth)
        told = self.head(backbone.finish(features.trunk).patches).permute(0, 3, 1, 2)
        return F.pixel_shuffle(told, self.cells)


def geometry_losses(told: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """L1 of log depth, and BCE of edges: cells whose farthest point is 15 % farther than the nearest one allows for a
    smooth surface seen at a slant. told, depths (B, 2, h, w)."""
    depth, edges = target(depths)
    return F.l1_loss(told[:, 0], depth), F.binary_cross_entropy_with_logits(told[:, 1], edges)


def target(depths: Tensor) -> tuple[Tensor, Tensor]:
    """Log depth (B, h, w) around 0, edges (B, h, w) in {0, 1}."""
    near, far = depths.float().unbind(1)
    return near.log() - 3.0, (far > 1.5 * near + 1.0).float()


def train(
    images: Tensor, depths: Tensor, steps: int, batch: int, rate: float, progress: Callable[[int, int], None]
) -> Geometry:
    """A function of its arguments alone: weights, order and mirroring come from one seed."""
    torch.manual_seed(0)
    model = Geometry()
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05, fused=True)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / warmup) * (1 - step / steps) ** 0.9
    )
    for step in range(steps):
        chosen = torch.randint(len(images), (batch,))
        seen, wanted = images[chosen], depths[chosen]
        if torch.rand(()) < 0.5:
            seen, wanted = seen.flip(3), wanted.flip(3)
        depth, edges = geometry_losses(model(seen), wanted)
        (depth + edges).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        progress(step + 1, steps)
        if step % 500 == 0:
            print(f"step {step}: depth {depth:.3f}, edges {edges:.3f}", flush=True)
    return model


def main() -> None:
    """Render, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file of the backbone")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    start = time.perf_counter()
    images, depths = render_looks(TRAIN_SEED, args.images, "rendering looks")
    held_out = render_looks(TEST_SEED, 200, "rendering held-out looks")

    with progress_bar("pre-training") as progress:
        model = train(images, depths, args.steps, args.batch, args.rate, progress)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"backbone.{name}": value for name, value in model.backbone.state_dict().items()}, args.out)
    found = measure(model.eval(), *held_out) | {
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "sha256": hashlib.sha256(args.out.read_bytes()).hexdigest(),
        **{name: getattr(args, name) for name in ("images", "steps", "batch", "rate", "threads")},
    }
    print(found)
    write_json(args.json, found)


@torch.no_grad()
def measure(model: Geometry, images: Tensor, depths: Tensor) -> dict[str, float]:
    """Mean error of log depth, of the best constant beside it, and F1 of edges, on images not trained on."""
    told = torch.cat([model(part) for part in images.split(50)])
    depth, edges = target(depths)
    guessed = told[:, 1] > 0
    hits = float((guessed & (edges > 0)).sum())
    return {
        "log_depth_error": round(float((told[:, 0] - depth).abs().mean()), 4),
        "log_depth_error_of_median": round(float((depth - depth.median()).abs().mean()), 4),
        "edge_f1": round(2 * hits / float(guessed.sum() + edges.sum()), 4),
        "edge_share": round(float(edges.mean()), 4),
    }


if __name__ == "__main__":
    main()
