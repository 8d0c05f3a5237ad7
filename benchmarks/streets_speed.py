"""Images of streets rendered per second on one thread, for every domain.

    python benchmarks/streets_speed.py [--json benchmarks/results/streets_speed.json]

Both clocks are reported: wall time, and the processor time of this process, which other programs do not disturb.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from report import write_report

from queryseg.data.streets import DOMAINS, render


def measure(domain: str, num_images: int, size: tuple[int, int]) -> dict[str, float]:
    for index in range(3):  # builds the shared tables and meshes
        render(domain, 9, index, size)
    wall, cpu = time.perf_counter(), time.process_time()
    for index in range(num_images):
        render(domain, 9, 3 + index, size)
    return {
        "images_per_second": round(num_images / (time.perf_counter() - wall), 1),
        "images_per_cpu_second": round(num_images / (time.process_time() - cpu), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100, help="images per domain")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = (options.size[0], options.size[1])
    speeds = {domain: measure(domain, options.images, size) for domain in DOMAINS}
    for domain, speed in speeds.items():
        wall, cpu = speed["images_per_second"], speed["images_per_cpu_second"]
        print(f"{domain:12s} {wall:6.1f} images/s  {cpu:6.1f} per CPU second")
    protocol = {"images_per_domain": options.images, "size": list(size), "includes": "image, labels, instances, depth"}
    write_report(options.json, protocol, speeds, "numpy", "pillow")


if __name__ == "__main__":
    main()
