"""The pictures of a diagnosis. All panels of one picture have the same scale.

A further picture is one more entry of `PICTURES`.

Shape legend: Q queries, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.evaluation.chart import INK, LINE, SOFT, Box, Chart, fitted, text_width
from queryseg.evaluation.curve import ticks
from queryseg.evaluation.diagnostics.diagnosis import Diagnosis
from queryseg.evaluation.diagnostics.map_picture import query_prototypes
from queryseg.evaluation.diagnostics.panels import MARGIN, TOP, WIDTH, Diagnoses, Panels, every_panel, headed
from queryseg.metrics.query_activity import NO_CLASS

_TEAL, _ORANGE, _RED, _FAINT, _EMPTY = (42, 157, 143), (226, 132, 50), (214, 69, 69), (168, 175, 181), (228, 230, 232)
_BLUE_END, _RED_END = (33, 102, 172), (178, 24, 43)
_RIGHT = WIDTH - MARGIN
_NAME = 150  # widest name of a class


@dataclass(frozen=True)
class Picture:
    """title and explanation stand above it in the report; draw leaves out panels of which nothing is defined."""

    title: str
    explanation: str
    draw: Callable[[Diagnoses], Panels]


# ───────────────────────────── similarity ─────────────────────────────


def similarity(diagnoses: Diagnoses) -> Panels:
    """S (K × Q), mean over images, columns sorted by group. Source: QPrompt-R1, Figure 4."""
    shown = {
        (run, domain): diagnosis
        for run, domain, diagnosis in every_panel(diagnoses)
        if (diagnosis.domains[domain].groups != NO_CLASS).any()
    }
    largest = max((float(d.domains[key[1]].similarity.nan_to_num().abs().max()) for key, d in shown.items()), default=0)
    return {(run, domain): _similarity(run, domain, shown[run, domain], largest) for run, domain in shown}


def _similarity(run: str, domain: str, diagnosis: Diagnosis, largest: float) -> Image.Image:
    found, classes = diagnosis.domains[domain], diagnosis.classes
    left, top, row = _label_width(classes), TOP + 14, 18
    bottom = top + row * len(classes)
    subtitle = f"compactness {found.figures['compactness']:.3f}, margin {found.figures['margin']:.3f}"
    chart = headed(bottom + 62, run, domain, subtitle)
    own = found.similarity.nan_to_num(-torch.inf).max(1).values
    order = sorted(range(len(own)), key=lambda q: (int(found.groups[q]), -float(own[q])))
    groups = found.groups[order].tolist()
    chart.pixels(diverging(found.similarity[order].T / max(largest, 1e-9)), (left, top, _RIGHT, bottom))
    chart.pixels(np.array([[classes.colors[group] for group in groups]], np.uint8), (left, TOP, _RIGHT, TOP + 9))
    for i in range(1, len(order)):
        if groups[i] != groups[i - 1]:
            x = left + i * (_RIGHT - left) / len(order)
            chart.line((x, TOP, x, bottom), INK, 0.75)
    for k, unknown in enumerate(found.similarity[0].isnan().tolist()):
        _class_label(chart, classes, k, left, top + (k + 0.5) * row, unknown)
    chart.rectangle((left, top, _RIGHT, bottom), None, LINE)
    chart.text(left, bottom + 14, f"{len(order)} queries, sorted by group", color=SOFT)
    _color_bar(chart, (left, bottom + 30, _RIGHT, bottom + 40), largest)
    return chart.picture()


def _color_bar(chart: Chart, box: Box, largest: float) -> None:
    chart.pixels(diverging(torch.linspace(-1, 1, 255)[None]), box)
    for share, anchor in ((-1, "la"), (-0.5, "ma"), (0, "ma"), (0.5, "ma"), (1, "ra")):
        x = box[0] + (share + 1) / 2 * (box[2] - box[0])
        chart.text(x, box[3] + 4, f"{share * largest:.2f}", 11, SOFT, anchor)


def diverging(values: Tensor) -> npt.NDArray[np.uint8]:
    """(h, w) in −1…1 → (h, w, 3): from blue over white to red, grey where nan; small values are strengthened."""
    ends, empty = (torch.tensor(colors, dtype=torch.float64) for colors in ((_BLUE_END, _RED_END), _EMPTY))
    strength = values.double()[..., None]
    colors = 255 + (torch.where(strength < 0, ends[0], ends[1]) - 255) * strength.abs() ** 0.7
    picture: npt.NDArray[np.uint8] = torch.where(strength.isnan(), empty, colors).round().byte().numpy()
    return picture


# ───────────────────────────── bars ─────────────────────────────


def occupancy(diagnoses: Diagnoses) -> Panels:
    """Queries of an image that stand for each class, by class head and by prototype."""
    domains = [diagnosis.domains[domain] for _, domain, diagnosis in every_panel(diagnoses)]
    levels = ticks(max(float(torch.cat([d.by_head, d.by_prototype]).max()) for d in domains))
    return {
        (run, domain): _occupancy(run, domain, diagnosis, levels) for run, domain, diagnosis in every_panel(diagnoses)
    }


def _occupancy(run: str, domain: str, diagnosis: Diagnosis, levels: Sequence[float]) -> Image.Image:
    found, classes = diagnosis.domains[domain], diagnosis.classes
    left, right, row = _label_width(classes), _RIGHT - 4, 22
    bottom = TOP + row * len(classes)
    absent = (found.presence == 0).tolist()
    subtitle = "queries per image" + ("; grey names: no image has the class" if any(absent) else "")
    chart = headed(bottom + 62, run, domain, subtitle)
    for tick in levels:
        x = left + tick / levels[-1] * (right - left)
        chart.line((x, TOP, x, bottom))
        chart.text(x, bottom + 6, f"{tick:g}", 11, SOFT, "ma")
    kinds = (("active ones, by class head", found.by_head, _TEAL), ("all, by prototype", found.by_prototype, _ORANGE))
    x = left
    for i, (text, values, color) in enumerate(kinds):
        for k, value in enumerate(values.tolist()):
            y = TOP + k * row + 3 + 8 * i
            chart.rectangle((left, y, left + value / levels[-1] * (right - left), y + 8), color)
        chart.rectangle((x, bottom + 34, x + 12, bottom + 46), color)
        chart.text(x + 18, bottom + 40, text, color=SOFT)
        x += text_width(text) + 40
    for k in range(len(classes)):
        _class_label(chart, classes, k, left, TOP + (k + 0.5) * row, absent[k])
    chart.line((left, TOP, left, bottom), SOFT)
    return chart.picture()


def activity(diagnoses: Diagnoses) -> Panels:
    """Share of images in which each query is active, in the order of the source domain."""
    panels: Panels = {}
    for run, domain, diagnosis in every_panel(diagnoses):
        found = diagnosis.domains[domain]
        order = diagnosis.domains[diagnosis.source].activity.argsort(descending=True, stable=True)
        number = found.figures["active_queries"]
        chart = headed(
            _BARS[3] + 56, run, domain, f"{number:.1f} of {len(order)} queries active per image, {len(found.dead)} dead"
        )
        places = _bars(chart, (100 * found.activity[order]).tolist(), ticks(100))
        for (left, right), q in zip(places, order.tolist(), strict=True):
            if q in found.dead:
                chart.rectangle((left, _BARS[3] + 2, right, _BARS[3] + 8), _RED)
        _captions(chart, f"queries, sorted by activity on {diagnosis.source}", "% of images")
        panels[run, domain] = chart.picture()
    return panels


def group_size_histogram(diagnoses: Diagnoses) -> Panels:
    """How many groups of each size an image has."""
    histograms = [diagnosis.domains[domain].sizes for _, domain, diagnosis in every_panel(diagnoses)]
    longest = max(int(sizes.nonzero().max()) + 1 if sizes.any() else 0 for sizes in histograms)
    if not longest:
        return {}
    levels = ticks(max(float(sizes.max()) for sizes in histograms))
    panels: Panels = {}
    for run, domain, diagnosis in every_panel(diagnoses):
        found = diagnosis.domains[domain]
        mean = f"{found.figures['size_by_prototype']:.1f} queries per group, mean"
        chart = headed(_BARS[3] + 56, run, domain, mean)
        places = _bars(chart, [*found.sizes.tolist(), *[0.0] * longest][:longest], levels)
        for size, (left, right) in enumerate(places, 1):
            if longest <= 20 or size % 5 == 0:
                chart.text((left + right) / 2, _BARS[3] + 6, str(size), 11, SOFT, "ma")
        _captions(chart, "queries in a group", "groups per image")
        panels[run, domain] = chart.picture()
    return panels


_BARS: Box = (48, TOP, _RIGHT, TOP + 180)


def _bars(chart: Chart, values: Sequence[float], levels: Sequence[float]) -> list[tuple[float, float]]:
    """Upright bars over a grid; returns where each begins and ends."""
    left, top, right, bottom = _BARS
    for tick in levels:
        y = bottom - tick / levels[-1] * (bottom - top)
        chart.line((left, y, right, y))
        chart.text(left - 6, y, f"{tick:g}", 11, SOFT, "rm")
    cell = (right - left) / len(values)
    gap = min(2.0, cell / 5)
    places = [(left + i * cell + gap / 2, left + (i + 1) * cell - gap / 2) for i in range(len(values))]
    for (start, end), value in zip(places, values, strict=True):
        chart.rectangle((start, bottom - value / levels[-1] * (bottom - top), end, bottom), _TEAL)
    chart.line((left, bottom, right, bottom), SOFT)
    return places


def _captions(chart: Chart, sideways: str, upwards: str) -> None:
    chart.text(_BARS[0], _BARS[3] + 34, sideways, color=SOFT)
    chart.text(_BARS[2], _BARS[3] + 34, f"upwards: {upwards}", color=SOFT, anchor="rm")


# ───────────────────────────── class names ─────────────────────────────


def _label_width(classes: ClassTable) -> float:
    return min(max(map(text_width, classes.names)), _NAME) + MARGIN + 24


def _class_label(chart: Chart, classes: ClassTable, k: int, right: float, y: float, faint: bool) -> None:
    chart.text(right - 24, y, fitted(classes.names[k], _NAME), color=_FAINT if faint else INK, anchor="rm")
    chart.rectangle((right - 18, y - 6, right - 6, y + 6), classes.colors[k], LINE)


PICTURES: Mapping[str, Picture] = {
    "query_prototypes": Picture(
        "Queries and prototypes",
        "Each dot is a query in one image, in the colour of the prototype nearest to it; stars are prototypes. Axes "
        "are principal components of a run's own queries and prototypes on the first data set; all panels have one "
        "scale. Two axes hide the others, so compare with the similarities below.",
        query_prototypes,
    ),
    "similarity": Picture(
        "Similarity of queries and prototypes",
        "Cosine similarity, mean over images; the strip on top shows each query's group. In a sharp group, queries are "
        "red in the row of their own class alone.",
        similarity,
    ),
    "activity": Picture(
        "Activity",
        "Share of images in which each query is active; red marks stand for dead queries.",
        activity,
    ),
    "occupancy": Picture(
        "Classes that queries stand for",
        "How many queries of an image stand for each class: active ones by the class head, all by the nearest "
        "prototype.",
        occupancy,
    ),
    "group_sizes": Picture(
        "Group sizes",
        "A group is the queries of one image with the same nearest prototype. A query alone in its group has no "
        "advantage in GRQA.",
        group_size_histogram,
    ),
}
"""File name → picture, in the order of the report."""
