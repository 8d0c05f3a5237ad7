"""A domain table as one HTML file.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from math import isnan
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from queryseg.data.class_table import ClassTable
from queryseg.data.drawing import colorize
from queryseg.evaluation.curve import read_curves, svg_chart
from queryseg.evaluation.domain_table import DomainTable
from queryseg.evaluation.evaluation import Evaluation, Example, percent
from queryseg.evaluation.page import css_color, definitions, figure_boxes, inline_image, section, write_page
from queryseg.types import IGNORE

Pixels = npt.NDArray[np.uint8]

_PICTURE_WIDTH = 420  # pixels; a strip shows four of them on a page 1160 wide, sharp also on dense screens
_WRONG = (214, 69, 69)


def write_html(
    table: DomainTable,
    path: str | Path,
    title: str,
    metrics: str | Path | None = None,
    further: Iterable[str] = (),
) -> None:
    """Write the report.

    metrics  a run's metrics.csv: adds its loss and validation curves
    further  sections of HTML, shown before the curves

    Raises: InputError if a file cannot be read or written
    """
    sections = [
        warnings_html(table.warnings),
        _figures(table),
        section("Domains", _domains(table)),
        section("IoU per class, in %", class_matrix({e.name: e for e in table.evaluations})),
        *further,
        section("Training", "" if metrics is None else _charts(metrics)),
        section("Examples", _examples(table)),
        section("Run", run_facts(table)),
    ]
    lead = f"{len(table.evaluations)} data sets, {len(table.class_names)} classes. {_sentence(table.caption)}"
    write_page(path, title, lead, sections)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


# ───────────────────────────── numbers ─────────────────────────────


def warnings_html(warnings: Iterable[str]) -> str:
    """What a reader must know before trusting a score."""
    return "".join(f'<p class="warning"><strong>Warning.</strong> {escape(text)}</p>' for text in warnings)


def _figures(table: DomainTable) -> str:
    """The two or three numbers that a reader came for."""
    boxes = [
        (percent(e.mean_iou), f"mIoU on {e.name} (training domain)") for e in table.evaluations if e.name in table.seen
    ]
    if table.unseen:
        number = len(table.unseen)
        boxes.append((percent(table.mean_unseen), f"mIoU, mean of {number} unseen domain{'s' if number > 1 else ''}"))
        worst = min(table.unseen, key=lambda e: -1.0 if isnan(e.mean_iou) else e.mean_iou)
        if number > 1:
            boxes.append((percent(worst.mean_iou), f"mIoU on {worst.name}, the hardest of them"))
    for target, found in table.corruptions.items():
        boxes.append((percent(found.performance.value), f"mPC, mean mIoU on {target} under corruption"))
    return figure_boxes(boxes)


def _tag(domain: str) -> str:
    return f'<span class="tag{" unseen" if domain == "unseen" else ""}">{domain}</span>'


def _domains(table: DomainTable) -> str:
    rows = []
    for e in table.evaluations:
        low, high = e.mean_iou_interval
        source = f' title="{escape(table.sources[e.name])}"' if e.name in table.sources else ""
        split = "" if e.split is None else f' <span class="soft">{escape(e.split)}</span>'
        rows.append(
            f"<tr><th{source}>{escape(e.name)}{split}</th><td>{_tag(table.domain_of(e.name))}</td>"
            f'<td class="number">{e.num_images:,}</td><td class="number"><strong>{percent(e.mean_iou)}</strong></td>'
            f'<td class="soft">{percent(low)} – {percent(high)}</td><td style="width:45%">{_bar(e)}</td>'
            f'<td class="number">{percent(e.pixel_accuracy)}</td></tr>'
        )
    for title, domain, estimate in table.means:
        rows.append(
            f'<tr class="mean"><th>{escape(title)}</th><td>{_tag(domain)}</td><td></td>'
            f'<td class="number">{percent(estimate.value)}</td><td class="soft">{estimate.interval_text}</td>'
            '<td colspan="2"></td></tr>'
        )
    titles = ("data set", "domain", "images", "mIoU", "95 % interval", "", "pixel accuracy")
    numbers = {"images", "mIoU", "pixel accuracy"}
    head = "".join(f'<th class="number">{t}</th>' if t in numbers else f"<th>{t}</th>" for t in titles)
    note = (
        f"Protocol: {table.protocol}; scores in %, pooled over all pixels of a data set. "
        "The interval is a bootstrap over images; it says nothing about other seeds."
    )
    return (
        f'<div class="scroll"><table class="domains"><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="soft">{escape(note)}</p>'
    )


def _bar(evaluation: Evaluation) -> str:
    """mIoU as a bar on 0…100, with its interval as a line on top."""
    if isnan(evaluation.mean_iou):
        return ""
    low, high = evaluation.mean_iou_interval
    line = "" if isnan(low) else f'<b style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></b>'
    return f'<span class="track"><i style="width:{100 * evaluation.mean_iou:.2f}%"></i>{line}</span>'


def class_matrix(evaluations: Mapping[str, Evaluation]) -> str:
    """IoU per class: what a row is called → its evaluation; all have the same classes."""
    classes = next(iter(evaluations.values())).classes
    head = "".join(
        f'<th><span>{escape(name)}</span><i style="background:{css_color(color)}"></i></th>'
        for name, color in zip(classes.names, classes.colors, strict=True)
    )
    rows = []
    for name, e in evaluations.items():
        cells = "".join(
            '<td class="absent">–</td>' if isnan(v) else f'<td style="--score:{v:.3f}">{percent(v)}</td>'
            for v in e.iou.tolist()
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    absent = any(bool(e.iou.isnan().any()) for e in evaluations.values())
    note = (
        '<p class="soft">–: the class is neither labelled nor predicted, and left out of the mean.</p>'
        if absent
        else ""
    )
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _charts(metrics: str | Path) -> str:
    curves = {name: points for name, points in read_curves(metrics).items() if len(points) > 1}
    charts = [svg_chart("loss", {"loss": curves["loss"]})] if "loss" in curves else []
    scores = {
        name.removeprefix("miou/"): [(step, 100 * score) for step, score in points]
        for name, points in curves.items()
        if name.startswith("miou/")
    }
    if scores:
        charts.append(svg_chart("validation mIoU in %", scores))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def run_facts(table: DomainTable) -> str:
    """What was evaluated, and the recipe."""
    facts = table.facts
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    seconds = sum(e.seconds for e in table.evaluations)
    num_images = sum(e.num_images for e in table.evaluations)
    rows = {
        "run": facts.run,
        "parameters": "" if facts.parameters is None else f"{facts.parameters / 1e6:,.2f} million",
        "training steps": "" if facts.steps is None else f"{facts.steps:,}",
        "seed": "" if facts.seed is None else str(facts.seed),
        "checkpoint": facts.checkpoint,
        "protocol": table.protocol,
        "evaluation": f"{num_images:,} images in {seconds:,.1f} s, reading files included",
        "versions": versions,
        **{f"data: {name}": source for name, source in table.sources.items()},
    }
    recipe = ""
    if facts.recipe:
        text = yaml.safe_dump(dict(facts.recipe), sort_keys=False, allow_unicode=True)
        recipe = f"<details><summary>Recipe</summary><pre>{escape(text)}</pre></details>"
    return definitions(rows) + recipe


# ───────────────────────────── pictures ─────────────────────────────


def _examples(table: DomainTable) -> str:
    if not any(e.examples for e in table.evaluations):
        return ""
    classes = table.evaluations[0].classes
    heads = "".join(f"<span>{title}</span>" for title in ("image", "label", "prediction", "errors"))
    parts = [class_legend(classes, errors=True), f'<div class="heads">{heads}</div>']
    for e in table.evaluations:
        if e.examples:
            parts.append(f'<h3>{escape(e.name)} <span class="soft">mIoU {percent(e.mean_iou)}</span></h3>')
            parts += [_strip(example, classes) for example in e.examples]
    return "".join(parts)


def class_legend(classes: ClassTable, errors: bool = False) -> str:
    """Colours and names. errors: pictures show wrong and ignored pixels, too"""
    entries = [
        f'<span><i style="background:{css_color(color)}"></i>{escape(name)}</span>'
        for name, color in zip(classes.names, classes.colors, strict=True)
    ]
    if errors:
        entries.append('<span><i style="background:#000"></i>ignored</span>')
        entries.append('<span><i class="wrong"></i>wrong</span>')
    return f'<div class="legend">{"".join(entries)}</div>'


def _strip(example: Example, classes: ClassTable) -> str:
    image, label_map, prediction = reduced(example)
    pictures = [
        inline_image("image", Image.fromarray(image), "jpeg"),
        inline_image("label", palette_image(label_map, classes), "png"),
        inline_image("prediction", palette_image(prediction, classes), "png"),
        inline_image("errors", Image.fromarray(error_picture(image, label_map, prediction)), "jpeg"),
    ]
    labelled = example.label_map != IGNORE
    right = "no labelled pixel"
    if labelled.any():
        right = (
            f"{percent(float((example.label_map == example.prediction)[labelled].mean()))} % of labelled pixels right"
        )
    return (
        f'<figure class="strip"><div>{"".join(pictures)}</div>'
        f"<figcaption>{escape(example.name)} · {right}</figcaption></figure>"
    )


def reduced(example: Example) -> tuple[Pixels, Pixels, Pixels]:
    """Image (h, w, 3), label map and prediction (h, w), as large as a page shows them."""
    height, width = example.label_map.shape
    shown_width = min(width, _PICTURE_WIDTH)
    size = (shown_width, max(1, round(height * shown_width / width)))
    image = Image.fromarray(example.image).resize(size, Image.Resampling.BILINEAR)
    maps = (
        Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
        for labels in (example.label_map, example.prediction)
    )
    label_map, prediction = map(np.asarray, maps)
    return np.asarray(image), label_map, prediction


def error_picture(image: Pixels, label_map: Pixels, prediction: Pixels) -> Pixels:
    """(H, W, 3): a pale grey image, wrong pixels red, ignored pixels black."""
    grey = image.mean(2, keepdims=True) * 0.45 + 135
    wrong = ((label_map != prediction) & (label_map != IGNORE))[..., None]
    picture = np.where(wrong, 0.15 * grey + 0.85 * np.array(_WRONG), grey)
    picture[label_map == IGNORE] = 0
    return np.broadcast_to(picture, image.shape).astype(np.uint8)


def palette_image(label_map: Pixels, classes: ClassTable) -> Image.Image:
    """Few flat colours: a palette PNG is smaller than a JPEG and has clean borders."""
    picture = Image.fromarray(label_map).convert("P")
    picture.putpalette(colorize(np.arange(256)[None], classes).tobytes())
    return picture
