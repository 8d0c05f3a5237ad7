"""What metrics cost: time per image of 1024×2048 with 19 classes, and memory over 10,000 images.

    python benchmarks/metrics.py [--threads 2] [--json benchmarks/results/metrics.json]
    python benchmarks/metrics.py --memory [--images 10000] [--json benchmarks/results/metrics_memory.json]

Target: confusion matrix, trimap (1 and 3 pixels), Boundary IoU, panoptic quality and calibration together at most 0.4 s
per image on 2 cores. Ground truth are rendered streets with their objects; the prediction is the same street moved by a
smooth random displacement of a few pixels, with patches of other classes, and its objects are connected components.
"clutter" is the worst case for whatever counts on runs of equal pixels: blocks of 4×4 pixels in random classes. Scores
are random, 19×256×512, and made probabilities as the mixture readout does.

Memory: the same maps in ever other positions, each image measured and forgotten; resident memory of the process above
what it was before the first image, the most of it (scores, temporary maps and all intervals included) at most 300 MB,
and the same after all images as after a tenth of them but for the rows that metrics keep.

Shape legend: K classes, H×W pixels, h×w the scores' grid.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from report import write_report
from torch import Tensor

from queryseg.data.class_table import CITYSCAPES
from queryseg.data.streets import render
from queryseg.evaluation.measures import components
from queryseg.host_memory import keep_freed_memory
from queryseg.metrics import (
    BoundaryIoU,
    Calibration,
    Metric,
    PanopticQuality,
    PixelScores,
    PredictedMaps,
    Trimap,
)
from queryseg.readouts import Mixture
from queryseg.types import IGNORE, Sample

SIZE, GRID = (1024, 2048), (256, 512)
TARGET_SECONDS, TARGET_MB = 0.4, 300
K = len(CITYSCAPES)
Pair = tuple[PredictedMaps, Sample]


def metrics() -> dict[str, Metric]:
    return {
        "confusion": PixelScores(K),
        "trimap_1_3": Trimap(K, (1, 3)),
        "boundary_iou_1_3_2%": BoundaryIoU(K, (1, 3)),
        "panoptic": PanopticQuality(K, CITYSCAPES.things),
        "calibration": Calibration(K),
    }


def displaced(labels: Tensor, seed: int) -> Tensor:
    """(H, W) labels as a good model sees them: borders a few pixels off, patches of other classes."""
    draw = torch.Generator().manual_seed(seed)
    height, width = labels.shape
    moves = F.interpolate(6 * torch.randn(1, 2, height // 32, width // 32, generator=draw), SIZE, mode="bicubic")[0]
    rows = (torch.arange(height)[:, None] + moves[0]).round().long().clamp(0, height - 1)
    columns = (torch.arange(width) + moves[1]).round().long().clamp(0, width - 1)
    found = labels[rows, columns]
    found[found == IGNORE] = 0
    for label in torch.randint(0, K, (20,), generator=draw).tolist():
        top, left, side = (int(torch.randint(8, n, (), generator=draw)) for n in (height - 64, width - 64, 64))
        found[top : top + side, left : left + side] = label
    return found


def street(seed: int) -> Pair:
    scene = render("clear", seed, 0, SIZE)
    label_map, instance_map = torch.from_numpy(scene.label_map), torch.from_numpy(scene.instance_map)
    return pair(label_map, instance_map, displaced(label_map, seed), seed)


def clutter(seed: int) -> Pair:
    draw = torch.Generator().manual_seed(seed)
    small = torch.randint(0, K + 1, (2, SIZE[0] // 4, SIZE[1] // 4), generator=draw)
    labels = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    label_map = labels[0].masked_fill(labels[0] == K, IGNORE).byte()
    prediction = torch.where(torch.rand(SIZE, generator=draw) < 0.5, labels[0], labels[1]).clamp(max=K - 1).byte()
    return pair(label_map, components(label_map, CITYSCAPES.things).instance_map, prediction, seed)


def pair(label_map: Tensor, instance_map: Tensor, prediction: Tensor, seed: int) -> Pair:
    """The scores stand in `probabilities` until they are made such."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(K, *GRID, generator=draw) ** 8
    maps = PredictedMaps(prediction, components(prediction, CITYSCAPES.things), scores)
    return maps, Sample(torch.empty(0), label_map, str(seed), instance_map)


def measured(maps: PredictedMaps) -> PredictedMaps:
    assert maps.probabilities is not None
    return PredictedMaps(maps.label_map, maps.panoptic, Mixture().probabilities(maps.probabilities[None])[0])


def times(pairs: list[Pair], rounds: int) -> dict[str, float]:
    """Median milliseconds per image, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in metrics()}
    taken["together"] = []
    for round_ in range(rounds + 1):
        for maps, sample in pairs:
            whole = 0.0
            for name, metric in metrics().items():
                start = time.perf_counter()
                metric.update(measured(maps) if name == "calibration" else maps, sample)
                elapsed = 1e3 * (time.perf_counter() - start)
                whole += elapsed
                if round_:
                    taken[name].append(elapsed)
            if round_:
                taken["together"].append(whole)
    return {name: round(statistics.median(values), 2) for name, values in taken.items()}


def moved(pairs: list[Pair], number: int) -> Iterator[Pair]:
    """`number` images: the given ones, rolled by other distances in every one."""
    for index in range(number):
        maps, sample = pairs[index % len(pairs)]
        assert maps.panoptic is not None
        assert maps.probabilities is not None
        assert sample.instance_map is not None
        by = (37 * index % SIZE[0], 101 * index % SIZE[1])
        labels, numbers, prediction, segments = (
            torch.roll(m, by, (0, 1))
            for m in (sample.label_map, sample.instance_map, maps.label_map, maps.panoptic.instance_map)
        )
        yield (
            PredictedMaps(prediction, type(maps.panoptic)(prediction, segments), maps.probabilities.clone()),
            Sample(sample.image, labels, str(index), numbers),
        )


def resident_mb(field: str = "VmRSS") -> float:
    """VmRSS: now; VmHWM: the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory(pairs: list[Pair], number: int) -> dict[str, float]:
    collected = metrics()
    forget_peak()
    before, after_tenth = resident_mb(), 0.0
    for index, (maps, sample) in enumerate(moved(pairs, number), 1):
        maps = measured(maps)
        for metric in collected.values():
            metric.update(maps, sample)
        if index == max(1, number // 10):
            after_tenth = resident_mb() - before
        if index % max(1, number // 10) == 0:
            print(f"{index:6d} images: {resident_mb() - before:7.1f} MB above the start", flush=True)
    after = resident_mb() - before
    found = [metric.compute() for metric in collected.values()]
    for measurement in found:
        assert measurement.intervals
    rows = sum(m.statistics.numel() * m.statistics.element_size() for m in found)
    return {
        "images": number,
        "after_a_tenth_mb": round(after_tenth, 1),
        "after_all_mb": round(after, 1),
        "most_mb_intervals_included": round(resident_mb("VmHWM") - before, 1),
        "rows_kept_mb": round(rows / 2**20, 1),
        "row_bytes_per_image": rows // number,
        "promised_mb_at_most": TARGET_MB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="resident memory instead of time")
    parser.add_argument("--images", type=int, default=10_000, help="measured for memory")
    parser.add_argument("--pairs", type=int, default=4, help="different maps")
    parser.add_argument("--rounds", type=int, default=10, help="over all maps, after one that is not counted")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    streets = [street(seed) for seed in range(options.pairs)]
    ctypes.CDLL(None).malloc_trim(0)  # what rendering has freed would hide what metrics take
    keep_freed_memory()
    protocol = {
        "what": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "label_map": list(SIZE),
        "scores": [K, *GRID],
        "pairs": options.pairs,
    }
    results: dict[str, object]
    if options.memory:
        results = dict(memory(streets, options.images))
    else:
        results = {
            "streets_ms": times(streets, options.rounds),
            "clutter_ms": times([clutter(seed) for seed in range(options.pairs)], options.rounds),
            "promised_together_ms_at_most": 1e3 * TARGET_SECONDS,
        }
        protocol["rounds"] = options.rounds
    for name, value in results.items():
        print(f"{name:32s}{value}")
    write_report(options.json, protocol, results)


if __name__ == "__main__":
    main()
