"""Rows of vanished.py to a table: what is left of objects that no image of a later step shows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from continual_arms import ARMS, ROOT

from queryseg.continual.step_scores import MEASURES
from queryseg.data.class_table import CITYSCAPES
from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.markdown_report import markdown_table

RESULTS = ROOT / "benchmarks" / "results" / "vanished.jsonl"
VANISHED = ("bus", "train")
LABELS = [CITYSCAPES.names.index(name) for name in VANISHED]
COMPARED = ("pseudo_labels", "without_selection", "without_virtual", "simcis")
IMAGES = ("shown", "gone")


def vanished_table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean over both classes and the orders: after the first step, and after the last one by what its images showed."""
    lines = []
    for arm in COMPARED:
        cells = []
        for measure in MEASURES:
            found = {
                images: [row[measure] for row in rows if (row["arm"], row["images"]) == (arm, images)]
                for images in IMAGES
            }
            cells.append(mean_over(found["gone"], 0))
            cells += [mean_over(found[images], -1) for images in IMAGES]
        lines.append([ARMS[arm].title, *cells])
    titles = [
        f"{shown} {when}" for shown in MEASURES.values() for when in ("after step 1", "if shown later", "if gone")
    ]
    return markdown_table(["arm", *titles], lines)


def mean_over(scores_of_runs: Sequence[dict[str, Any]], step: int) -> str:
    values = [of_run[cls][step] for of_run in scores_of_runs for cls in VANISHED]
    return percent(fmean(values)) if values else ""
