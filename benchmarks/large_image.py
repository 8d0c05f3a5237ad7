"""Memory of labelling one very large image in windows: the image and its labels, one row of windows, and no more.

    python benchmarks/large_image.py --size 10000 20000 --classes 19 --json benchmarks/results/large_image.json

The model is a stand-in that colours pixels, so what is measured is the windows' own share.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import torch
from report import write_report
from torch import Tensor

from queryseg.data.protocol import Protocol
from queryseg.inference.engine import Finding, Size
from queryseg.inference.windows import SCORES_LIMIT, protocol_labels


class Coloured:
    """K scores per pixel from its colour."""

    device = torch.device("cpu")

    def __init__(self, num_classes: int) -> None:
        self.class_names = tuple(map(str, range(num_classes)))
        self.weights = torch.randn(num_classes, 3, generator=torch.Generator().manual_seed(0))

    def find(self, images: Tensor, size: Size | None = None) -> Finding:
        scores = torch.einsum("kc,bchw->bhwk", self.weights, images.float()).permute(0, 3, 1, 2)
        return Finding(lambda: scores.argmax(1).byte(), lambda: scores)


def peak() -> float:
    """Most memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Label one image, tell the rise of the process's peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(10_000, 20_000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--stride", type=int, default=341)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    height, width = options.size
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    engine, protocol = Coloured(options.classes), Protocol(window=options.window, stride=options.stride)
    protocol_labels(engine, image[:, :1024, :1024], protocol)
    before, start = peak(), time.perf_counter()
    labels = protocol_labels(engine, image, protocol)
    whole = 4 * options.classes * height * width
    results = {
        "peak_before_gib": round(before, 3),
        "peak_gib": round(peak(), 3),
        "whole_scores_gib": round(whole / 2**30, 2),
        "one_row_of_windows_gib": round(4 * options.classes * min(options.window, height) * width / 2**30, 3),
        "in_strips": whole > SCORES_LIMIT,
        "seconds": round(time.perf_counter() - start, 1),
        "num_labels": len(labels.unique()),
    }
    print(results)
    settings = {"image": f"{width}×{height}", "classes": options.classes, "protocol": str(protocol)}
    write_report(options.json, settings, results)


if __name__ == "__main__":
    main()
