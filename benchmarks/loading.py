"""What the training transforms add to decoding: a GTA-sized sample (1914×1052 PNG pair), decoded with and without them.

    python benchmarks/loading.py --json benchmarks/results/loading.json

Target: decoding and transforms together take at most 1.5 × decoding alone, in one thread, as in a loader worker. The
two are interleaved, so that whatever else the machine does hits both alike; each round draws its own crop and colours.
The sample is a rendered street: its image is a PNG of 1.8 MB, its label a palette PNG as GTA's.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import PIL
import torch
import torchvision
from PIL import Image

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


def cpu_name() -> str:
    """The processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> int:
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
    result = {
        "command": " ".join(["python", "benchmarks/loading.py", *sys.argv[1:]]),
        "image_bytes": num_bytes,
        "rounds": options.rounds,
        "decode_ms": statistics.median(decoding),
        "decode_and_transform_ms": statistics.median(whole),
        "ratio_median": statistics.median(ratios),
        "ratio_p95": sorted(ratios)[int(0.95 * len(ratios))],
        "target": TARGET,
        "hardware": {"cpu": cpu_name(), "threads": 1, "machine": platform.machine()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
        },
    }
    print(
        f"decode {result['decode_ms']:.1f} ms, with transforms {result['decode_and_transform_ms']:.1f} ms: "
        f"ratio {result['ratio_median']:.2f} (95th percentile {result['ratio_p95']:.2f}; target {TARGET})"
    )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if result["ratio_median"] <= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
