"""Rows of finished continual runs to tables: mean over orders of the classes, and how much the order matters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from continual_arms import ARMS, ROOT, SETTINGS

from queryseg.evaluation.evaluation import percent

Row = dict[str, Any]

RESULTS = ROOT / "benchmarks" / "results" / "continual.jsonl"
COLUMNS = {"base": "base", "new": "new", "all": "all", "average": "all, mean over steps"}


def read_rows() -> list[Row]:
    """What is finished; of a run that was measured again, the last row."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    return list({row["run"]: row for row in rows}.values())


def over_orders(values: Sequence[float]) -> str:
    """Mean ± standard deviation over orders, in points: what another order of the classes changes."""
    return percent(fmean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")


def setting_table(rows: list[Row], setting: str, measure: str) -> str:
    """One line per arm; the last column is the worst order's score of all classes."""
    lines = []
    for arm, entry in ARMS.items():
        found = [row["scores"][measure] for row in rows if (row["setting"], row["arm"]) == (setting, arm)]
        if found:
            cells = [over_orders([known for s in found if (known := s[key]) is not None]) for key in COLUMNS]
            lines.append([entry.title, str(len(found)), *cells, percent(min(s["all"] for s in found))])
    titles = ["arm", "orders", *COLUMNS.values(), "all, worst order"]
    rule = ["---", *["---:"] * (len(titles) - 1)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in [titles, rule, *lines])
    return table if lines else "Nothing has been measured yet."


def measures_of(rows: list[Row], setting: str) -> list[str]:
    """The one that the setting is about first."""
    found = [row["scores"] for row in rows if row["setting"] == setting]
    return list(found[0]) if found else ["pq" if "panoptic" in setting else "miou"]


def summary(rows: list[Row]) -> str:
    """All tables as Markdown."""
    parts = {
        f"{setting.replace('_', ' ')}, {measure.replace('pq', 'PQ').replace('miou', 'mIoU')}": setting_table(
            rows, setting, measure
        )
        for setting in SETTINGS
        for measure in measures_of(rows, setting)
    }
    return "\n\n".join(f"## {title}\n\n{table}" for title, table in parts.items())
