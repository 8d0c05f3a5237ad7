"""A table of scores before anybody has decided how it looks: terminal, HTML, Markdown and LaTeX are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan

from rich.markup import escape
from rich.table import Table

from queryseg.evaluation.estimate import Estimate
from queryseg.evaluation.evaluation import percent


@dataclass(frozen=True)
class Cell:
    """text: the score; interval: of it, or ""; score: in 0…1, as it is shaded, nan for none.

    seen  on the run's training domain
    best  highest of those it can be compared with
    """

    text: str
    interval: str = ""
    score: float = float("nan")
    seen: bool = False
    best: bool = False

    @classmethod
    def of(cls, estimate: Estimate, seen: bool = False) -> Cell:
        """In %."""
        return cls(percent(estimate.value), estimate.interval_text, estimate.value, seen)


@dataclass(frozen=True)
class Row:
    """names: what the cells belong to, one per leading column."""

    names: Sequence[str]
    cells: Sequence[Cell]


@dataclass(frozen=True)
class ScoreGrid:
    """names: titles of the leading columns; columns: titles of the cells."""

    title: str
    names: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""
    subtitles: Sequence[str] = field(default=())

    def __rich__(self) -> Table:
        """For a terminal; * marks the training domain."""
        table = Table(title=escape(self.title), caption=escape(self.note), min_width=60)
        for name in self.names:
            table.add_column(escape(name))
        for column in self.columns:
            table.add_column(escape(column), justify="right")
        for row in self.rows:
            cells = (f"{cell.text}{'*' * cell.seen}\n[dim]{cell.interval}[/]".rstrip("\n") for cell in row.cells)
            table.add_row(*map(escape, row.names), *cells)
        return table


def with_best(rows: Sequence[Row]) -> list[Row]:
    """Marks the highest score of every column among rows that can be compared: two or more that have a score, and all
    of them seen or none."""
    best: list[float] = []
    for column in zip(*(row.cells for row in rows), strict=True):
        scores = [cell.score for cell in column if not isnan(cell.score)]
        comparable = len(scores) > 1 and len({cell.seen for cell in column}) == 1
        best.append(max(scores) if comparable else float("nan"))
    return [
        replace(row, cells=[replace(c, best=c.score == highest) for c, highest in zip(row.cells, best, strict=True)])
        for row in rows
    ]
