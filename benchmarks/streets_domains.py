"""What streets promise: a QPrompt learns `clear` by shape and context, and suffers in every other domain without
failing.

    python benchmarks/streets_domains.py [--table demo/table.json] [--json benchmarks/results/streets_domains.json]

Runs the demo (a fixed number of steps from scratch), or reads the table of one that was run, and compares it with the
promises. Rerun this and pixel_classifier.py when the generator changes. Exit code 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import write_report

from queryseg.cli.main import main as queryseg

RESULTS = Path(__file__).parent / "results"
AT_LEAST = {"road": 75, "building": 75, "vegetation": 75, "sky": 75, "sidewalk": 60, "car": 60}
"""IoU on `clear`, in percent."""


def promises(table: dict[str, Any], by_pixel: float) -> dict[str, tuple[float, bool]]:
    """What → (measured in percent or minutes, kept). by_pixel: the pixel classifier's mIoU on `clear`, 0…1."""
    scores = {name: 100 * entry["mean_iou"] for name, entry in table["data"].items()}
    clear = scores.pop("clear")
    above = clear - 100 * by_pixel
    found = {
        "minutes, at most 6": (table["minutes"], table["minutes"] <= 6),
        "mIoU on clear, at least 50": (clear, clear >= 50),
        "mIoU on clear above the pixel classifier, at least 15": (above, above >= 15),
    }
    for name, least in AT_LEAST.items():
        iou = 100 * table["data"]["clear"]["classes"][name]["iou"]
        found[f"IoU of {name} on clear, at least {least}"] = (iou, iou >= least)
    for name, score in scores.items():
        found[f"mIoU on {name}, at least 15"] = (score, score >= 15)
        found[f"mIoU lost on {name}, 5 to 40"] = (clear - score, 5 <= clear - score <= 40)
    return {what: (round(value, 4), kept) for what, (value, kept) in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="of a demo that was run; default: run one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = options.table or Path(folder) / "table.json"
        if options.table is None and queryseg(["demo", "--out", folder]):
            return 2
        content = json.loads(table.read_text())
    by_pixel = json.loads((RESULTS / "pixel_classifier.json").read_text())["results"]["mean_iou"]["clear"]
    found = promises(content, by_pixel)
    for what, (value, kept) in found.items():
        print(f"{'kept' if kept else 'BROKEN':8s}{value:8.2f}  {what}")
    results = {what: {"measured": value, "kept": kept} for what, (value, kept) in found.items()}
    write_report(options.json, {"model": content["model"], "protocol": content["protocol"]}, results)
    return 0 if all(kept for _, kept in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
