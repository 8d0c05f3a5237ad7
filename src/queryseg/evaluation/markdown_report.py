"""A domain table, or a matrix of several, as Markdown, for a README or a pull request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from queryseg.errors import InputError
from queryseg.evaluation.domain_table import DomainTable
from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.matrix import matrix_grids
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.matrix.score_grid import Cell, ScoreGrid


def write_markdown(content: DomainTable | DomainMatrix, path: str | Path) -> None:
    """Raises: InputError if the file cannot be written"""
    write_text(markdown(content) if isinstance(content, DomainTable) else matrix_markdown(content), path)


def write_text(text: str, path: str | Path) -> None:
    """Raises: InputError if the file cannot be written"""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{path}' could not be written ({error.strerror}); choose a folder that can.") from error


def markdown(table: DomainTable) -> str:
    """Warnings, data sets, classes, and what must stand beside every score."""
    domains = []
    for e in table.evaluations:
        interval = " – ".join(map(percent, e.mean_iou_interval))
        scores = [percent(e.mean_iou), interval, percent(e.pixel_accuracy)]
        domains.append([e.name, e.split or "–", table.domain_of(e.name), f"{e.num_images:,}", *scores])
    for title, domain, estimate in table.means:
        domains.append([title, "", domain, "", percent(estimate.value), estimate.interval_text, ""])
    classes = []
    for k, name in enumerate(table.class_names):
        classes.append([name, *(percent(float(e.iou[k])) for e in table.evaluations)])
    caption = f"{table.caption[0].upper()}{table.caption[1:]}."
    warnings = "".join(f"> **Warning:** {text}\n\n" for text in table.warnings)
    titles = ["data set", "split", "domain", "images", "mIoU", "95 % interval", "pixel accuracy"]
    means = markdown_table(titles, domains)
    by_class = markdown_table(["class", *(e.name for e in table.evaluations)], classes)
    return f"{warnings}mIoU in %\n\n{means}\n\n{caption}\n\nIoU per class in %\n\n{by_class}\n"


def matrix_markdown(matrix: DomainMatrix) -> str:
    """Warnings, every table, and what must stand beside every score."""
    warnings = "".join(f"> **Warning:** {text}\n\n" for text in matrix.warnings)
    said = f"{'. '.join(matrix.captions)}. Underlined: training domain of the run; bold: highest of the column."
    tables = "\n".join(grid_markdown(grid) for grid in matrix_grids.all_grids(matrix))
    return f"{warnings}{said[0].upper()}{said[1:]}\n\n{tables}"


def grid_markdown(grid: ScoreGrid) -> str:
    """A heading, the table, its note."""
    heads = zip(grid.columns, grid.subtitles or [""] * len(grid.columns), strict=True)
    head = [*grid.names, *(f"{column} ({subtitle})" if subtitle else column for column, subtitle in heads)]
    rows = [[*row.names, *(_cell(cell) for cell in row.cells)] for row in grid.rows]
    note = f"\n{grid.note[0].upper()}{grid.note[1:]}.\n" if grid.note else ""
    return f"### {grid.title}\n\n{markdown_table(head, rows)}\n{note}"


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    text = f"<u>{text}</u>" if cell.seen else text
    return f"{text} [{cell.interval}]" if cell.interval else text


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """All columns but the first are right-aligned; no newline at the end."""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (titles, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
