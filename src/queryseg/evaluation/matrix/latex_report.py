"""A domain matrix as LaTeX: compiles by itself, and its tables can be copied into a paper that loads booktabs."""

from __future__ import annotations

from pathlib import Path

from queryseg.errors import InputError
from queryseg.evaluation.matrix import matrix_grids
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.matrix.score_grid import Cell, ScoreGrid

_HEAD = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage{textcomp,amssymb}
\usepackage{booktabs,graphicx}
\usepackage[margin=2cm]{geometry}
\begin{document}
"""

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # these two would belong to the \\ of the line before
        "*": "{*}",
        "×": r"$\times$",
        "–": "--",
        "…": r"\ldots{}",
        "→": r"$\rightarrow$",
        "·": r"$\cdot$",
        "\N{NO-BREAK SPACE}": "~",
    }
)


def write_latex(matrix: DomainMatrix, path: str | Path) -> None:
    """Raises: InputError if the file cannot be written"""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(latex(matrix), encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{path}' could not be written ({error.strerror}); choose a folder that can.") from error


def latex(matrix: DomainMatrix) -> str:
    """All tables; what must stand beside every score is in the captions."""
    said = f"Underlined: training domain of the run; bold: highest of the column. {'; '.join(matrix.captions)}."
    warnings = "".join(f"\\noindent\\textbf{{Warning.}} {escaped(text)}\n\n" for text in matrix.warnings)
    tables = ""
    for number, grid in enumerate(matrix_grids.all_grids(matrix)):
        # LaTeX gives up if many tables wait for their place
        tables += ("\\clearpage\n" if number and number % 6 == 0 else "") + _table(grid, said)
    return f"{_HEAD}{warnings}{tables}\\end{{document}}\n"


def escaped(text: str) -> str:
    """Plain text as LaTeX."""
    return text.translate(_ESCAPES)


def _table(grid: ScoreGrid, said: str) -> str:
    alignment = "l" * len(grid.names) + "r" * len(grid.columns)
    note = f" {grid.note[0].upper()}{grid.note[1:]}." if grid.note else ""
    lines = [
        "\\begin{table}[ht]\\centering",
        f"\\caption{{{escaped(f'{grid.title}.{note} {said}')}}}",
        # wide tables shrink to the page, others keep their size
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        _line([*map(escaped, grid.names), *map(escaped, grid.columns)]),
        *([_line([*("" for _ in grid.names), *map(_small, grid.subtitles)])] if any(grid.subtitles) else []),
        "\\midrule",
    ]
    before = None
    for row in grid.rows:
        if len(row.names) > 1 and before not in (None, row.names[0]):
            lines.append("\\addlinespace")
        first = "" if len(row.names) > 1 and row.names[0] == before else row.names[0]
        before = row.names[0]
        lines.append(_line([*map(escaped, (first, *row.names[1:])), *(_score(cell) for cell in row.cells)]))
        if any(cell.interval for cell in row.cells):
            lines.append(_line([*("" for _ in row.names), *(_small(cell.interval) for cell in row.cells)]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}", "\\end{table}", ""])


def _line(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _small(text: str) -> str:
    return f"{{\\scriptsize {escaped(text)}}}" if text else ""


def _score(cell: Cell) -> str:
    text = escaped(cell.text)
    text = f"\\textbf{{{text}}}" if cell.best else text
    return f"\\underline{{{text}}}" if cell.seen else text
