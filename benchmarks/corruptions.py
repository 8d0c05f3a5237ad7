"""Time of every corruption on a 512×1024 street, and how much longer plain loops over pixels take.

    python benchmarks/corruptions.py --json benchmarks/results/corruptions.json

Target: at least 8 × as fast as loops over pixels for glass blur, elastic transform, motion blur and zoom blur. The
loops below follow the published definitions pixel by pixel; they run on a 48×96 cut of the same street, and their time
is scaled by the number of pixels. Only glass blur is published as such a loop: for the other three, `array_ratio`
compares with array code of the published kind (shifted copies, scipy.ndimage.zoom, scipy.ndimage.map_coordinates) on
the whole street. One thread; all candidates take turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from math import ceil, floor, radians
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import write_report
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from queryseg.data.corruptions import CORRUPTIONS, corrupt
from queryseg.data.corruptions.blur import GLASS_BLUR, MOTION_BLUR, ZOOM_BLUR, smooth
from queryseg.data.corruptions.digital import ELASTIC_TRANSFORM
from queryseg.data.corruptions.levels import from_levels, to_levels
from queryseg.data.streets import render

Values = NDArray[np.float32]
SIZE, CUT = (512, 1024), (48, 96)
TARGET = 8.0
RANDOM = np.random.default_rng(0)


def glass_loop(image: Values, level: int) -> Values:
    """As published: one exchange after the other, from the last pixel to the first."""
    sigma, reach, iterations = GLASS_BLUR[level - 1]
    pixels = np.ascontiguousarray(to_levels(smooth(image, sigma)).transpose(1, 2, 0))
    height, width, _ = pixels.shape
    for _ in range(iterations):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = RANDOM.integers(-reach, reach, 2)
                pixels[h, w], pixels[h + dy, w + dx] = pixels[h + dy, w + dx], pixels[h, w]
    return smooth(from_levels(pixels.transpose(2, 0, 1)), sigma)


def motion_loop(image: Values, level: int) -> Values:
    """Every pixel sums over the line that it moved along."""
    offsets, weights = motion_line(level)
    _, height, width = image.shape
    result = np.zeros_like(image)
    for h in range(height):
        for w in range(width):
            for (dy, dx), weight in zip(offsets, weights, strict=True):
                row, column = min(max(h - dy, 0), height - 1), min(max(w - dx, 0), width - 1)
                result[:, h, w] += weight * image[:, row, column]
    return result


def zoom_loop(image: Values, level: int) -> Values:
    """Every pixel interpolates in the centre of the image, for every factor."""
    _, height, width = image.shape
    total = image.copy()
    for factor in zoom_factors(level):
        rows, columns = ceil(height / factor), ceil(width / factor)
        top, left = (height - rows) // 2, (width - columns) // 2
        for h in range(height):
            for w in range(width):
                y = top + h * (rows - 1) / (round(rows * factor) - 1)
                x = left + w * (columns - 1) / (round(columns * factor) - 1)
                total[:, h, w] += bilinear(image, y, x)
    return total / (len(zoom_factors(level)) + 1)


def elastic_loop(image: Values, level: int) -> Values:
    """Every pixel interpolates where its displacement leads."""
    moves = displacements(image, level)
    result = np.empty_like(image)
    for h in range(image.shape[1]):
        for w in range(image.shape[2]):
            result[:, h, w] = bilinear(image, h + moves[1, h, w], w + moves[0, h, w])
    return result


def bilinear(image: Values, y: float, x: float) -> Values:
    _, height, width = image.shape
    top, left = floor(y), floor(x)
    rows = [min(max(row, 0), height - 1) for row in (top, top + 1)]
    columns = [min(max(column, 0), width - 1) for column in (left, left + 1)]
    down, right = y - top, x - left
    upper = (1 - right) * image[:, rows[0], columns[0]] + right * image[:, rows[0], columns[1]]
    lower = (1 - right) * image[:, rows[1], columns[0]] + right * image[:, rows[1], columns[1]]
    return (1 - down) * upper + down * lower


def motion_arrays(image: Values, level: int) -> Values:
    """One shifted copy of the image after the other."""
    offsets, weights = motion_line(level)
    total = np.zeros_like(image)
    for (dy, dx), weight in zip(offsets, weights, strict=True):
        moved = np.roll(image, (dy, dx), (1, 2))
        if dx < 0:
            moved[:, :, dx:] = moved[:, :, dx - 1 : dx]
        elif dx > 0:
            moved[:, :, :dx] = moved[:, :, dx : dx + 1]
        if dy < 0:
            moved[:, dy:] = moved[:, dy - 1 : dy]
        elif dy > 0:
            moved[:, :dy] = moved[:, dy : dy + 1]
        total += np.float32(weight) * moved
    return total


def zoom_arrays(image: Values, level: int) -> Values:
    """scipy.ndimage.zoom for every factor."""
    _, height, width = image.shape
    total = image.copy()
    for factor in zoom_factors(level):
        rows, columns = ceil(height / factor), ceil(width / factor)
        top, left = (height - rows) // 2, (width - columns) // 2
        part = image[:, top : top + rows, left : left + columns]
        total += zoom(part, (1, factor, factor), order=1)[:, :height, :width]
    return total / (len(zoom_factors(level)) + 1)


def elastic_arrays(image: Values, level: int) -> Values:
    """scipy.ndimage.map_coordinates over all three axes at once."""
    moves = displacements(image, level)
    channels, rows, columns = np.indices(image.shape, np.float32)
    return map_coordinates(image, (channels, rows + moves[1], columns + moves[0]), order=1, mode="reflect")


def motion_line(level: int) -> tuple[list[tuple[int, int]], list[float]]:
    """Offsets (rows, columns) of a motion by 30° and their weights."""
    radius, sigma = MOTION_BLUR[level - 1]
    distance, angle = np.arange(2 * radius + 1), radians(30)
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    rows, columns = (-np.ceil(distance * part - 0.5).astype(int) for part in (np.sin(angle), np.cos(angle)))
    return list(zip(rows.tolist(), columns.tolist(), strict=True)), (weights / weights.sum()).tolist()


def zoom_factors(level: int) -> list[float]:
    num_factors, step = ZOOM_BLUR[level - 1]
    return [1 + i * step for i in range(num_factors)]


def displacements(image: Values, level: int) -> Values:
    _, height, width = image.shape
    noise = RANDOM.uniform(-0.005 * height, 0.005 * height, (2, height, width)).astype(np.float32)
    sigmas = (0, 0.01 * height, 0.01 * width)
    return gaussian_filter(noise, sigmas, mode="reflect", truncate=3) * np.float32(ELASTIC_TRANSFORM[level - 1])


LOOPS = {
    "glass_blur": glass_loop,
    "elastic_transform": elastic_loop,
    "motion_blur": motion_loop,
    "zoom_blur": zoom_loop,
}
ARRAYS = {"elastic_transform": elastic_arrays, "motion_blur": motion_arrays, "zoom_blur": zoom_arrays}


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    level = options.severity
    image = torch.from_numpy(render("clear", 1, 0, SIZE).image).permute(2, 0, 1).contiguous()
    values = from_levels(image.numpy())
    cut = np.ascontiguousarray(values[:, 200 : 200 + CUT[0], 300 : 300 + CUT[1]])
    scale = SIZE[0] * SIZE[1] / (CUT[0] * CUT[1])
    ours: dict[str, list[float]] = {name: [] for name in CORRUPTIONS}
    loops: dict[str, list[float]] = {name: [] for name in LOOPS}
    arrays: dict[str, list[float]] = {name: [] for name in ARRAYS}
    for round_ in range(-2, options.rounds):
        for name in CORRUPTIONS:
            elapsed = milliseconds(lambda name=name, key=f"round {round_}": corrupt(image, name, level, key))
            if round_ >= 0:  # the first rounds warm caches up, and grow the textures of frost
                ours[name].append(elapsed)
        if 0 <= round_ < 5:
            for name, loop in LOOPS.items():
                loops[name].append(scale * milliseconds(lambda loop=loop: loop(cut, level)))
            for name, array in ARRAYS.items():
                arrays[name].append(milliseconds(lambda array=array: array(values, level)))
    results = {}
    for name, times in ours.items():
        middle = statistics.median(times)
        results[name] = {"ms": round(middle, 1), "ms_p95": round(sorted(times)[int(0.95 * len(times))], 1)}
        if name in loops:
            results[name]["loop_ms"] = round(statistics.median(loops[name]))
            results[name]["loop_ratio"] = round(statistics.median(loops[name]) / middle, 1)
            results[name]["promised_loop_ratio_at_least"] = TARGET
        if name in arrays:
            results[name]["array_ratio"] = round(statistics.median(arrays[name]) / middle, 2)
        entry = results[name]
        ratios = [f"{key} {entry[key]}" for key in ("loop_ratio", "array_ratio") if key in entry]
        print(f"{name:20s}{entry['ms']:8.1f} ms   {'   '.join(ratios)}")
    protocol = {"size": list(SIZE), "cut_of_loops": list(CUT), "severity": level, "rounds": options.rounds}
    write_report(options.json, protocol, results, "numpy", "scipy", "pillow")


if __name__ == "__main__":
    main()
