"""A domain matrix as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import isnan
from pathlib import Path

from PIL import Image

from queryseg.data.drawing import Pixels, overlay
from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.matrix import matrix_grids
from queryseg.evaluation.matrix.confusion_table import MOST_CLASSES, confusion_table, most_confused
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.matrix.reliability_plot import reliability_plots
from queryseg.evaluation.matrix.score_grid import Cell, ScoreGrid
from queryseg.evaluation.matrix.speed_accuracy import speed_accuracy_plot
from queryseg.evaluation.matrix.worst_images import WorstImage
from queryseg.evaluation.page import figure_boxes, inline_image, section, write_page
from queryseg.evaluation.report import class_legend, class_matrix, reduced, run_facts, warnings_html

_OPACITY = 0.65  # of labels over images
_MOST_BOXES = 4


def write_matrix_html(matrix: DomainMatrix, path: str | Path, title: str, worst: Sequence[WorstImage] = ()) -> None:
    """Raises: InputError if the file cannot be written"""
    grid = matrix_grids.sources_by_targets(matrix)
    sections = [
        warnings_html(matrix.warnings),
        figure_boxes(_boxes(matrix)),
        section(grid.title, grid_html(grid) + _legend(matrix)),
        *further_sections(matrix, worst, section("IoU per class, in %", _classes(matrix))),
        *(section(g.title, grid_html(g)) for g in matrix_grids.measure_scores(matrix)),
        *(section(f"Run {run}", run_facts(table)) for run, table in matrix.tables.items()),
    ]
    lead = f"{len(matrix.runs)} runs on {len(matrix.targets)} targets, {len(matrix.classes)} classes."
    write_page(path, title, f"{lead} {_sentence('; '.join(matrix.captions))}", sections)


def further_sections(matrix: DomainMatrix, worst: Sequence[WorstImage] = (), classes: str = "") -> list[str]:
    """What the report of a single run shows, too: speed, conditions, corruptions, confusion, reliability, worst images;
    each only if there is something to show.

    classes  a section that stands among them
    """
    corruptions = matrix_grids.corruption_means(matrix)
    severities = _folded("Every severity", _titled(matrix_grids.corruption_severities(matrix)))
    return [
        section("mIoU under shift against time", _speed(matrix)),
        *(section(g.title, grid_html(g)) for g in matrix_grids.conditions(matrix)),
        *(section(g.title, grid_html(g) + severities) for g in corruptions),
        classes,
        section("Confusion: which class is taken for which", _confusion(matrix)),
        section("Reliability of confidence", _reliability(matrix)),
        section("Worst images", _worst(matrix, worst)),
    ]


def _titled(grids: Sequence[ScoreGrid]) -> str:
    return "".join(f"<h3>{escape(grid.title)}</h3>{grid_html(grid)}" for grid in grids)


def grid_html(grid: ScoreGrid) -> str:
    """The table and its note, without its title."""
    titles = zip(grid.columns, grid.subtitles or [""] * len(grid.columns), strict=True)
    head = "".join(f"<th>{escape(name)}</th>" for name in grid.names) + "".join(
        f'<th class="number">{escape(title)}{_small(subtitle)}</th>' for title, subtitle in titles
    )
    rows, leading = [], [row.names[0] for row in grid.rows]
    follows = [False, *(a == b and len(grid.names) > 1 for a, b in pairwise(leading))]
    for i, row in enumerate(grid.rows):
        continued = i + 1 < len(follows) and follows[i + 1]
        kinds = " ".join([*["follows"] * follows[i], *["continued"] * continued])
        names = "".join(f"<th>{escape(name)}</th>" for name in row.names)
        rows.append(f'<tr class="{kinds}">{names}{"".join(map(_cell, row.cells))}</tr>')
    note = f'<p class="soft">{escape(_sentence(grid.note))}</p>' if grid.note else ""
    return (
        f'<div class="scroll"><table class="scores"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _cell(cell: Cell) -> str:
    kinds = " ".join([*["seen"] * cell.seen, *["best"] * cell.best])
    shade = "" if isnan(cell.score) else f' style="--score:{min(cell.score, 1):.3f}"'
    return f'<td class="{kinds}"{shade}>{escape(cell.text)}{_small(cell.interval)}</td>'


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>" if text else ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _folded(title: str, content: str, opened: bool = False) -> str:
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(title)}</summary>{content}</details>" if content else ""


def _boxes(matrix: DomainMatrix) -> list[tuple[str, str]]:
    """The number that a reader came for, of the best runs."""
    shifted = {run: matrix.shifted(run).value for run in matrix.runs}
    order = sorted((run for run in matrix.runs if not isnan(shifted[run])), key=lambda run: -shifted[run])
    return [(percent(shifted[run]), f"{run}: mean mIoU, {matrix.shift}") for run in order[:_MOST_BOXES]]


def _legend(matrix: DomainMatrix) -> str:
    bold = " Bold: highest of the column; where intervals overlap it may be chance." if len(matrix.runs) > 1 else ""
    return f'<p class="soft">Dashed frame: the run&#x27;s training domain.{bold}</p>'


def _classes(matrix: DomainMatrix) -> str:
    """Runs below each other, target by target."""
    places = [(target, run) for target in matrix.targets for run in matrix.runs]
    return class_matrix({f"{target} · {run}": matrix.evaluation(run, target) for target, run in places})


def _speed(matrix: DomainMatrix) -> str:
    plot = speed_accuracy_plot(matrix)
    if not plot:
        return ""
    timing = _sentence(next(iter(matrix.latencies.values())).caption)
    text = (
        "Discs: the runs above, with 95 % intervals over images and quartiles over rounds; dashed: their Pareto front. "
    )
    if not matrix.published:
        return f'{plot}<p class="soft">{escape(text + timing)}</p>'
    text += (
        "Circles: published numbers of other methods, from other data, another machine and other training; they show "
        "where the field is and must not be compared with the discs. "
    )
    rows = "".join(
        f"<tr><th>{escape(point.name)}</th><td>{percent(point.mean_iou)}</td>"
        f"<td>{'≥ ' * point.slower}{point.milliseconds:.1f}</td><td>{escape(point.protocol)}</td></tr>"
        for point in matrix.published
    )
    table = (
        '<div class="scroll"><table class="domains"><thead><tr><th>method</th><th>mIoU in %</th><th>ms</th>'
        f"<th>protocol and source</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return f'{plot}<p class="soft">{escape(text + timing)}</p>{_folded("Published points and their protocols", table)}'


def _confusion(matrix: DomainMatrix) -> str:
    note = "Rows are labels, columns predictions, in % of the row's labelled pixels; below 0.5 % a cell stays empty."
    if len(matrix.classes) > MOST_CLASSES:
        note += f" The {MOST_CLASSES} classes with the most labelled pixels; JSON has all."
    parts = []
    shown_first = next((t for run in matrix.runs for t in matrix.unseen(run)), matrix.targets[0])
    for target in matrix.targets:
        tables = []
        for run in matrix.runs:
            e = matrix.evaluation(run, target)
            name = f"{run} · " if len(matrix.runs) > 1 else ""
            text = f'<p class="soft">{escape(name)}mIoU {percent(e.mean_iou)} %. {escape(most_confused(e))}</p>'
            tables.append(f'<div>{text}<div class="scroll">{confusion_table(e)}</div></div>')
        scores = ", ".join(percent(matrix.evaluation(run, target).mean_iou) for run in matrix.runs)
        tables_beside = f'<div class="side-by-side">{"".join(tables)}</div>'
        parts.append(_folded(f"{target} · mIoU {scores} %", tables_beside, target == shown_first))
    return f'<p class="soft">{escape(note)}</p>{"".join(parts)}'


def _reliability(matrix: DomainMatrix) -> str:
    plots = reliability_plots(matrix)
    if not plots:
        return ""
    note = (
        "Pixels in bins of confidence. Below the diagonal a model is surer than it is right. Error: expected "
        "calibration error, the mean distance to the diagonal, weighted by pixels."
    )
    return f'<div class="charts">{"".join(plots)}</div><p class="soft">{escape(note)}</p>'


def _worst(matrix: DomainMatrix, worst: Sequence[WorstImage]) -> str:
    if not worst:
        return ""
    several = len(matrix.runs) > 1
    mean = "the mean over runs of " if several else ""
    note = f"By {mean}the image's own mIoU, over the classes that are labelled or predicted in it."
    parts = [f'<p class="soft">{escape(note)}</p>', class_legend(matrix.classes)]
    target = None
    for one in worst:
        if one.target != target:
            parts.append(f"<h3>{escape(one.target)}</h3>")
            target = one.target
        parts.append(_strip(matrix, one))
    return "".join(parts)


def _strip(matrix: DomainMatrix, worst: WorstImage) -> str:
    """The image, its label, and every run's prediction, each over the image."""
    image, label_map, _ = reduced(worst.examples[matrix.runs[0]])

    def draw(labels: Pixels) -> Image.Image:
        return Image.fromarray(overlay(image, labels, matrix.classes, _OPACITY))

    cells = [(worst.name, Image.fromarray(image)), ("label", draw(label_map))]
    for run, example in worst.examples.items():
        name = run if len(matrix.runs) > 1 else "prediction"
        cells.append((f"{name}: {percent(worst.scores[run])} %", draw(reduced(example)[2])))
    figures = "".join(
        f"<figure>{inline_image(text, picture, 'jpeg')}<figcaption>{escape(text)}</figcaption></figure>"
        for text, picture in cells
    )
    return f'<div class="worst">{figures}</div>'
