"""How much it matters in which order classes come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from queryseg.continual.continual_table import ContinualTable
from queryseg.continual.step_scores import MEASURES
from queryseg.evaluation.estimate import Estimate
from queryseg.evaluation.markdown_report import grid_markdown, write_text
from queryseg.evaluation.matrix.matrix_report import grid_html
from queryseg.evaluation.matrix.score_grid import Cell, Row, ScoreGrid
from queryseg.evaluation.page import section, write_page
from queryseg.inference.run_folder import replace_file
from queryseg.metrics.measurement import number

COLUMNS = ("base", "new", "all", "all, mean over steps")


@dataclass(frozen=True)
class OrderTable:
    """tables: seed of an order → what became of it after all steps."""

    tables: Mapping[int, ContinualTable]

    def scores(self, name: str, measure: str) -> dict[int, list[float]]:
        """Order → base, new and all classes after the last step, and the mean over steps; 0…1."""
        found = {}
        for seed, table in self.tables.items():
            groups = table.group_scores(table.steps[-1], name, measure)
            found[seed] = [groups["base"], groups["new"], groups["all"], table.average(name, measure)]
        return found

    def spread(self, name: str, measure: str) -> dict[str, list[float]]:
        """Over orders: mean, standard deviation (nan for one), lowest and highest of every column."""
        columns = [
            [v for v in column if not isnan(v)] for column in zip(*self.scores(name, measure).values(), strict=True)
        ]
        return {
            "mean": [fmean(column) if column else nan for column in columns],
            "standard deviation": [stdev(column) if len(column) > 1 else nan for column in columns],
            "lowest": [min(column, default=nan) for column in columns],
            "highest": [max(column, default=nan) for column in columns],
        }

    def grid(self, name: str, measure: str) -> ScoreGrid:
        """A row per order, then its spread."""
        rows = [
            Row([f"order {seed}"], [_cell(v) for v in values]) for seed, values in self.scores(name, measure).items()
        ]
        rows += [Row([what], [_cell(v) for v in values]) for what, values in self.spread(name, measure).items()]
        title = f"{MEASURES[measure]} on {name} over orders of the classes, in %"
        return ScoreGrid(title, ["order"], COLUMNS, rows, "after the last step; orders are named by their seeds")

    def grids(self) -> list[ScoreGrid]:
        first = next(iter(self.tables.values()))
        return [self.grid(name, measure) for name in first.data_names for measure in first.measures]

    def to_json(self) -> dict[str, Any]:
        """Plain values in 0…1, None where there is none."""
        first = next(iter(self.tables.values()))
        return {
            "columns": list(COLUMNS),
            "orders": {str(seed): table.to_json()["split"] for seed, table in self.tables.items()},
            "scores": {
                name: {
                    measure: {
                        str(key): [number(value) for value in values]
                        for key, values in (self.scores(name, measure) | self.spread(name, measure)).items()
                    }
                    for measure in first.measures
                }
                for name in first.data_names
            },
        }

    def write(self, folder: Path) -> None:
        """folder/orders.json, .md and .html. Raises: InputError, CheckpointError if they cannot be written"""
        grids = self.grids()
        replace_file(folder / "orders.json", json.dumps(self.to_json(), indent=1).encode())
        write_text("\n".join(map(grid_markdown, grids)), folder / "orders.md")
        lead = f"{len(self.tables)} orders of the classes, each trained from its first step on."
        write_page(
            folder / "orders.html", "Learning in other orders", lead, [section(g.title, grid_html(g)) for g in grids]
        )


def _cell(value: float) -> Cell:
    return Cell.of(Estimate(value))
