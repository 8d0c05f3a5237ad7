"""A continual run as HTML, Markdown and JSON, written anew after every step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from math import isnan
from pathlib import Path

from PIL import Image

from queryseg.continual.continual_plan import ContinualPlan
from queryseg.continual.continual_table import GROUPS, ContinualTable
from queryseg.continual.step_pictures import read_step_pictures
from queryseg.continual.step_scores import MEASURES
from queryseg.evaluation.evaluation import Example, percent
from queryseg.evaluation.markdown_report import grid_markdown, write_text
from queryseg.evaluation.matrix.matrix_report import grid_html
from queryseg.evaluation.page import definitions, figure_boxes, inline_image, section, write_page
from queryseg.evaluation.report import class_legend, palette_image, reduced
from queryseg.evaluation.svg_plot import Point, SvgPlot, linear_ticks
from queryseg.inference.run_folder import replace_file

REPORT = "continual"
"""Stem of the files in the run's folder."""

NUM_COLORS = 6
"""Of lines, in the stylesheet."""

_MOST_COLUMNS = 7
"""Pictures beside each other."""


def write_reports(table: ContinualTable, plan: ContinualPlan) -> None:
    """continual.json, .md and .html in the run's folder. Raises: InputError, CheckpointError if they cannot be
    written"""
    content = json.dumps({"recipe": plan.recipe, **table.to_json()}, indent=1, default=str)
    replace_file(plan.out / f"{REPORT}.json", content.encode())
    write_text(continual_markdown(table), plan.out / f"{REPORT}.md")
    write_html(table, plan, plan.out / f"{REPORT}.html")


def continual_markdown(table: ContinualTable) -> str:
    """The scores of every step, forgetting, classes."""
    grids = [
        make(name, measure)
        for name in table.data_names
        for measure in table.measures
        for make in (table.group_grid, table.forgetting_grid, table.class_grid)
    ]
    return f"{_caption(table)}\n\n" + "\n".join(map(grid_markdown, grids))


def write_html(table: ContinualTable, plan: ContinualPlan, path: Path) -> None:
    """Raises: InputError if it cannot be written"""
    names, measures = table.data_names, table.measures
    last = table.steps[-1]
    pairs = [(name, measure) for name in names for measure in measures]
    parts = [figure_boxes(_figures(table))]
    parts.append(section("Steps", f'<div class="charts">{"".join(steps_plot(table, *pair) for pair in pairs)}</div>'))
    parts += [
        section(f"{MEASURES[measure]} on {name}", grid_html(table.group_grid(name, measure)) + forgetting)
        for name, measure in pairs
        for forgetting in [_titled("What is left of every step's classes", table, name, measure)]
    ]
    parts.append(section("The same images after every step", _strips(table, plan)))
    classes = "".join(
        f"<details><summary>{escape(grid.title)}</summary>{grid_html(grid)}</details>"
        for grid in (table.class_grid(*pair) for pair in pairs)
    )
    parts.append(section("Classes", classes))
    memory = ", ".join(f"{kind}: {size:,} bytes" for kind, size in last.memory.items())
    split = {
        f"Step {step}": ", ".join(table.classes.names[label] for label in table.split.current(step))
        for step in range(1, len(table.split) + 1)
    }
    parts.append(section("Run", definitions({"Images": table.shown, "Kept for the next step": memory, **split})))
    write_page(path, "Learning class by class", _caption(table), parts)


def steps_plot(table: ContinualTable, name: str, measure: str) -> str:
    """SVG: a line per group of classes over the steps."""
    points: dict[str, list[tuple[float, float]]] = {group: [] for group in GROUPS if group != "current"}
    for scores in table.steps:
        for group, value in table.group_scores(scores, name, measure).items():
            if group in points and not isnan(value):
                points[group].append((table.place(scores), 100 * value))
    title = f"{MEASURES[measure]} on {name}"
    drawn = {group: line for group, line in points.items() if line}
    plot = plot_over_steps(title, f"{title}, %", drawn, len(table.split))
    for place, group in enumerate(drawn):
        plot.text((plot.width - 16 - 52 * (len(drawn) - place), 16), group, f"name-{place} run")
    return plot.svg()


def plot_over_steps(title: str, y_label: str, lines: Mapping[str, Sequence[Point]], num_steps: int) -> SvgPlot:
    """lines: name → (step, value) in %, in the stylesheet's colours by turns. Whoever asks writes the names."""
    top = max(5.0, 1.1 * max((value for line in lines.values() for _, value in line), default=1.0))
    plot = SvgPlot(title, (0.8, num_steps + 0.2), (0.0, top), "step", y_label)
    plot.grid(range(1, num_steps + 1), linear_ticks(0.0, top))
    for place, (name, line) in enumerate(lines.items()):
        color = place % NUM_COLORS
        if len(line) > 1:
            plot.polyline(line, f"curve-{color}")
        for step, value in line:
            plot.mark((step, value), f"fill-{color}", f"{name} after step {step:g}: {value:.1f}", 4)
    return plot


def _figures(table: ContinualTable) -> list[tuple[str, str]]:
    """What a reader came for: of the first data set and measure, the last step's groups and the mean over steps."""
    if not table.data_names:
        return []
    name, measure = table.data_names[0], table.measures[0]
    found = table.group_scores(table.steps[-1], name, measure)
    what = f"{MEASURES[measure]} on {name}"
    boxes = [(percent(found[group]), f"{what}, {group} classes") for group in ("all", "base", "new")]
    return [*boxes, (percent(table.average(name, measure)), f"{what}, all seen classes, mean over steps")]


def _titled(title: str, table: ContinualTable, name: str, measure: str) -> str:
    return f"<h3>{escape(title)}</h3>{grid_html(table.forgetting_grid(name, measure))}"


def _strips(table: ContinualTable, plan: ContinualPlan) -> str:
    """image, label, and what was predicted after each step."""
    shown = read_step_pictures(plan, [scores.step for scores in table.steps])
    return "".join(_strip(examples, table) for examples in shown) + class_legend(table.classes) if shown else ""


def _strip(examples: Sequence[Example], table: ContinualTable) -> str:
    image, label_map, _ = reduced(examples[0])
    pictures = [
        ("image", inline_image("image", Image.fromarray(image), "jpeg")),
        ("label", inline_image("label", palette_image(label_map, table.classes), "png")),
    ]
    for example in examples:
        labels = palette_image(reduced(example)[2], table.classes)
        pictures.append((example.name, inline_image(example.name, labels, "png")))
    columns = min(_MOST_COLUMNS, len(pictures))
    figures = "".join(
        f'<figure style="margin:0">{picture}<figcaption>{escape(said)}</figcaption></figure>'
        for said, picture in pictures
    )
    return (
        f'<div class="strip"><div style="grid-template-columns:repeat({columns},minmax(0,1fr))">{figures}</div></div>'
    )


def _caption(table: ContinualTable) -> str:
    done, planned = len(table.steps), 1 if table.joint else len(table.split)
    how = "all classes at once" if table.joint else f"{done} of {planned} steps, {table.protocol}"
    sizes = "-".join(str(len(step)) for step in table.split.steps)
    return f"{len(table.classes)} classes as {sizes}: {how}; images shown at {table.shown}."
