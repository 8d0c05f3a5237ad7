"""Rows of finished continual runs to tables: mean over orders of the classes, and how much the order matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from continual_arms import ARMS, ROOT, SETTINGS, all_runs

from queryseg.continual.step_scores import MEASURES
from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.markdown_report import markdown_table

Row = dict[str, Any]

RESULTS = ROOT / "benchmarks" / "results" / "continual.jsonl"
COLUMNS = {"base": "base", "new": "new", "all": "all", "average": "all, mean over steps"}


def over_orders(values: Sequence[float]) -> str:
    """Mean ± standard deviation over orders, in points: what another order of the classes changes."""
    return percent(fmean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")


def setting_table(rows: list[Row], setting: str, measure: str) -> str:
    """One line per arm: base classes after the first step, which arms of one kind of query share; then what is left of
    them and what was learned since, after the last; the last column is the worst order's score of all classes."""
    lines = []
    for arm, entry in ARMS.items():
        found = [row["scores"][measure] for row in rows if (row["setting"], row["arm"]) == (setting, arm)]
        if found:
            first = [] if entry.joint else [score["forgetting_matrix"][0][0] for score in found]
            columns = [first, *([known for s in found if (known := s[key]) is not None] for key in COLUMNS)]
            cells = [over_orders(values) if values else "" for values in columns]
            lines.append([entry.title, str(len(found)), *cells, percent(min(s["all"] for s in found))])
    titles = ["arm", "orders", "base after step 1", *COLUMNS.values(), "all, worst order"]
    return markdown_table(titles, lines)


def measures_of(rows: list[Row], setting: str) -> list[str]:
    """The one that the setting is about first."""
    return list(next(row["scores"] for row in rows if row["setting"] == setting))


def titled_tables(rows: list[Row]) -> dict[str, str]:
    """Title → table, of every setting with a row, the measure it is about first."""
    there = {row["setting"] for row in rows}
    return {
        f"{setting.replace('_', ' ')}, {MEASURES[measure]} in %": setting_table(rows, setting, measure)
        for setting in SETTINGS
        if setting in there
        for measure in measures_of(rows, setting)
    }


def missing_runs(rows: list[Row]) -> str:
    """A sentence that counts the runs of every setting of which there is no row yet; "" if none."""
    there = {row["run"] for row in rows}
    planned = Counter(run.setting for run in all_runs())
    left = Counter(run.setting for run in all_runs() if run.name not in there)
    told = [f"{left[setting]} of {planned[setting]} of {setting.replace('_', ' ')}" for setting in left]
    return f"Runs not measured yet: {', '.join(told)}." if told else ""


def summary(rows: list[Row], level: int = 2) -> str:
    """All tables as Markdown. level: of their headings"""
    parts = [f"{'#' * level} {title}\n\n{table}" for title, table in titled_tables(rows).items()]
    return "\n\n".join(part for part in (*parts, missing_runs(rows)) if part)
