"""What the training transforms add to decoding: a GTA-sized sample (1914×1052 PNG pair), decoded with and without them.

    python benchmarks/loading.py --json benchmarks/results/loading.json

Target: decoding and transforms together take at most 1.5 × decoding alone, in one thread, as in a loader worker. The
two are interleaved, so that whatever else the machine does hits both alike; each round draws its own crop and colours.
The sample is a rendered street: its image is a PNG of 1.8 MB, its label a palette PNG as GTA's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from report import write_report

from queryseg.data.folders import Folders
from queryseg.data.sampling import Draw, TrainingSet
from queryseg.data.streets import render
from queryseg.data.transforms import TrainingTransform

SIZE = (1052, 1914)
TARGET = 1.5


def write_sample(root: Path, seed: int) -> int:
    """One image and its palette label, as GTA stores them; returns the bytes of the image file."""
    scene = render("clear", seed, 0, SIZE)
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    Image.fromarray(scene.image).save(root / "images/00001.png")
    label = Image.fromarray(scene.label_map)
    label.putpalette([channel for value in range(256) for channel in (value, 255 - value, value // 2)])
    label.save(root / "labels/00001.png")
    return (root / "images/00001.png").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sample"
        num_bytes = write_sample(root, options.seed)
        dataset = Folders(root, label_map="cityscapes_train_ids")
        training = TrainingSet(dataset, TrainingTransform(), options.seed)
        decoding, whole = [], []
        for round_ in range(-3, options.rounds):
            start = time.perf_counter()
            dataset[0]
            middle = time.perf_counter()
            training[Draw(round_ + 3, 0)]
            end = time.perf_counter()
            if round_ >= 0:  # the first rounds warm caches up
                decoding.append(1e3 * (middle - start))
                whole.append(1e3 * (end - middle))
    ratios = [b / a for a, b in zip(decoding, whole, strict=True)]
    results = {
        "decode_ms": round(statistics.median(decoding), 1),
        "decode_and_transform_ms": round(statistics.median(whole), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_p95": round(sorted(ratios)[int(0.95 * len(ratios))], 3),
        "promised_ratio_at_most": TARGET,
    }
    for name, value in results.items():
        print(f"{name:28s}{value}")
    protocol = {"size": list(SIZE), "crop": [512, 512], "image_bytes": num_bytes, "rounds": options.rounds}
    write_report(options.json, protocol, results, "torchvision", "pillow")


if __name__ == "__main__":
    main()
