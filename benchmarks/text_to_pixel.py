"""What tqdm's text-to-pixel attention adds to the pixel decoder.

    python benchmarks/text_to_pixel.py [--json benchmarks/results/tqdm.json] [--only forward|backward|flops]

Mask2Former's pixel decoder of the same size (6 layers of width 256 and hidden width 2048) beside tqdm's, on the four
maps that CLIP ViT-B/16 and EVA02-CLIP-L/14 give of one 512² crop and on the texts of 19 classes; random weights, eager
float32, batch 1, in turns in one process. What is added: texts' projection, attention over the classes in every layer,
its norm, and a norm at the end.

forward   eval mode, no gradient
backward  forward and backward in training mode, with gradients of maps and texts
flops     multiply–adds by PyTorch's counter

The file is not called tqdm.py, because the progress bar of that name could not be imported beside it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from report import write_report
from torch import Tensor

from queryseg.benchmarking.arithmetic import FlopCount
from queryseg.benchmarking.rounds import take_turns, timed
from queryseg.contracts import PixelDecoder
from queryseg.data.class_table import CITYSCAPES
from queryseg.host_memory import keep_freed_memory
from queryseg.pixel_decoders import Deformable, TextDeformable
from queryseg.types import Dims, Features, Trunk

HIDDEN = 2048
PROMISED = 1.15
"""Of the pixel decoder's forward pass."""
BACKBONES: Mapping[str, tuple[int, int, int]] = {"clip_b": (768, 512, 32), "eva02_l": (1024, 768, 36)}
"""Channels of every map, width of texts, side of the grid of patches of a 512² crop."""


def dims_of(backbone: str) -> Dims:
    channels, joint, _ = BACKBONES[backbone]
    maps = (channels,) * 4
    return Dims(CITYSCAPES.names, channels, 12, maps, (32, 16, 8, 4), channels, channels, joint=joint)


def decoders(backbone: str, device: str | torch.device) -> tuple[PixelDecoder, PixelDecoder]:
    """Mask2Former's and tqdm's."""
    torch.manual_seed(0)
    with torch.device(device):
        return Deformable(dims_of(backbone), hidden=HIDDEN), TextDeformable(dims_of(backbone), hidden=HIDDEN)


def features(backbone: str, device: str | torch.device) -> Features:
    channels, joint, side = BACKBONES[backbone]
    with torch.device(device):
        levels = tuple(torch.randn(1, channels, size, size) for size in (side // 2, side, 2 * side, 4 * side))
        return Features(cast(Trunk, None), levels, levels[-1], context=torch.randn(1, len(CITYSCAPES.names), joint))


def learning(decoder: PixelDecoder, given: Features) -> Tensor:
    """Forward and backward, as in training."""
    levels = tuple(level.detach().requires_grad_() for level in given.levels)
    assert given.context is not None
    out = decoder(replace(given, levels=levels, context=given.context.detach().requires_grad_()))
    total = torch.stack([m.square().mean() for m in (*out.levels, out.mask_features)]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    decoder.zero_grad()
    return total


def in_turns(args: argparse.Namespace, device: torch.device, train: bool) -> dict[str, Any]:
    """Per backbone: seconds of both, the median of the rounds' own ratios and its quartiles."""
    found = {}
    for backbone in BACKBONES:
        pair, given = decoders(backbone, device), features(backbone, device)

        def task(decoder: PixelDecoder, given: Features = given) -> Callable[[], Mapping[str, float]]:
            decoder.train(train)

            def run() -> Mapping[str, float]:
                if train:
                    return {"all": timed(lambda: learning(decoder, given), device)}
                with torch.inference_mode():
                    return {"all": timed(lambda: decoder(given), device)}

            return run

        times = take_turns([task(decoder) for decoder in pair], args.rounds, 3)
        base, ours = (seconds["all"] for seconds in times.seconds)
        ratios = sorted(b / a for a, b in zip(base, ours, strict=True))
        quarter = len(ratios) // 4
        found[backbone] = {
            "mask2former_seconds": round(statistics.median(base), 4),
            "tqdm_seconds": round(statistics.median(ours), 4),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_quartiles": [round(ratios[quarter], 3), round(ratios[-1 - quarter], 3)],
            "settled": times.settled,
        }
        if not train:
            found[backbone]["promised_ratio_at_most"] = PROMISED
    return found


def flops() -> dict[str, Any]:
    """Per backbone, 10⁹ multiply–adds of both and their ratio."""
    found = {}
    for backbone in BACKBONES:
        counted = []
        for decoder in decoders(backbone, "meta"):
            with torch.no_grad(), FlopCount() as count:
                decoder.eval()(features(backbone, "meta"))
            counted.append(count.total / 2e9)
        base, ours = counted
        found[backbone] = {"mask2former": round(base, 2), "tqdm": round(ours, 2), "ratio": round(ours / base, 3)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("forward", "backward", "flops"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    device = torch.device(args.device)
    results: dict[str, Any] = {}
    for name, measure in (
        ("flops", flops),
        ("forward", lambda: in_turns(args, device, train=False)),
        ("backward", lambda: in_turns(args, device, train=True)),
    ):
        if args.only in (None, name):
            results[name] = measure()
            print(name, results[name], flush=True)
    write_report(args.json, {"rounds": args.rounds, "device": args.device}, results)


if __name__ == "__main__":
    main()
