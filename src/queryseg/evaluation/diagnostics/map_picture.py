"""Draws queries and prototypes on two axes, before and after, at home and away.

Shape legend: K classes, P points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import atan2, cos, dist, isnan, pi, sin
from statistics import fmean

import torch
from PIL import Image

from queryseg.data.class_table import ClassTable
from queryseg.evaluation.chart import LINE, SOFT, Box, Chart, fitted, text_width
from queryseg.evaluation.curve import ticks
from queryseg.evaluation.diagnostics.diagnosis import Diagnosis, QueryMap
from queryseg.evaluation.diagnostics.panels import TOP, WIDTH, Diagnoses, Panels, every_panel, headed

_LEFT, _RIGHT = 48.0, WIDTH - 14.0

Place = tuple[float, float]


def query_prototypes(diagnoses: Diagnoses) -> Panels:
    """Queries of some images and all known prototypes; every panel has the same scale."""
    maps = {run: diagnosis.map for run, diagnosis in diagnoses.items() if diagnosis.map is not None}
    if not maps:
        return {}
    axes = _Axes.around(list(maps.values()))
    return {
        (run, domain): _panel(run, domain, diagnosis, maps[run], axes)
        for run, domain, diagnosis in every_panel(diagnoses)
        if run in maps
    }


@dataclass(frozen=True)
class _Axes:
    """The area of the panel that is drawn on, and the map's lower left corner there. One unit is as long on both axes.

    low   the corner, on the map
    unit  pixels
    """

    area: Box
    low: Place
    unit: float

    @classmethod
    def around(cls, maps: Sequence[QueryMap]) -> _Axes:
        """Room for everything on all maps, and a margin; at most square."""
        points = torch.cat([m.prototypes for m in maps] + [p.positions for m in maps for p in m.points.values()])
        points = points[points.isfinite().all(1)]
        low, high = points.min(0).values, points.max(0).values
        wide, tall = (1.12 * (high - low).clamp(min=1e-6)).tolist()
        wide = max(wide, tall)
        tall = max(tall, 0.6 * wide)
        unit = (_RIGHT - _LEFT) / wide
        x, y = ((low + high) / 2).tolist()
        return cls((_LEFT, TOP, _RIGHT, TOP + unit * tall), (x - wide / 2, y - tall / 2), unit)

    def place(self, x: float, y: float) -> Place:
        """In pixels of the panel."""
        return self.area[0] + (x - self.low[0]) * self.unit, self.area[3] - (y - self.low[1]) * self.unit

    def ticks(self, axis: int) -> list[float]:
        """Round numbers on an axis, as far apart on both."""
        step, low = ticks((_RIGHT - _LEFT) / self.unit)[1], self.low[axis]
        length = (self.area[2 + axis] - self.area[axis]) / self.unit
        return [round(i * step, 9) for i in range(-int(-low // step), int((low + length) // step) + 1)]


def _panel(run: str, domain: str, diagnosis: Diagnosis, query_map: QueryMap, axes: _Axes) -> Image.Image:
    points, classes = query_map.points[domain], diagnosis.classes
    num_images = len(points.groups) // diagnosis.num_queries
    shares = " and ".join(f"{100 * share:.0f} %" for share in query_map.explained.tolist())
    subtitle = f"queries of {num_images} image{'s'[: num_images > 1]}; the axes hold {shares} of the variance"
    chart = headed(axes.area[3] + 62, run, domain, subtitle)
    _grid(chart, axes)
    # the more telling ones on top
    order = points.active.long().argsort(stable=True).tolist()
    positions, groups, active = points.positions.tolist(), points.groups.tolist(), points.active.tolist()
    for i in order:
        color = classes.colors[groups[i]]
        dark = (color[0] * 2 // 3, color[1] * 2 // 3, color[2] * 2 // 3, 230)
        x, y = axes.place(*positions[i])
        if active[i]:
            chart.disc(x, y, 3.5, (*color, 200), dark)
        else:
            chart.disc(x, y, 3.5, None, (*color, 150))
    stars = {k: axes.place(x, y) for k, (x, y) in enumerate(query_map.prototypes.tolist()) if not isnan(x)}
    names = _placed_names(stars, classes, axes.area)
    for k, (box, led) in names.items():
        if led:
            chart.line((*stars[k], *_nearest_point(box, stars[k])), SOFT, 0.75)
    for k, (x, y) in stars.items():
        chart.star(x, y, 8, classes.colors[k])
    for k, (box, _) in names.items():
        chart.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, _name(classes, k), anchor="mm", halo=True)
    _legend(chart, axes.area[3] + 42)
    return chart.picture()


def _grid(chart: Chart, axes: _Axes) -> None:
    left, top, right, bottom = axes.area
    for tick in axes.ticks(0):
        x, _ = axes.place(tick, 0)
        chart.line((x, top, x, bottom))
        chart.text(x, bottom + 6, f"{tick:g}", 11, SOFT, "ma")
    for tick in axes.ticks(1):
        _, y = axes.place(0, tick)
        chart.line((left, y, right, y))
        chart.text(left - 6, y, f"{tick:g}", 11, SOFT, "rm")
    chart.rectangle(axes.area, None, LINE)


def _legend(chart: Chart, y: float) -> None:
    x = _LEFT + 4.0
    for text, fill in (("active query", SOFT), ("inactive query", None)):
        chart.disc(x, y, 4, fill, SOFT)
        chart.text(x + 13, y, text, color=SOFT)
        x += text_width(text) + 44
    chart.star(x, y, 8, LINE)
    chart.text(x + 13, y, "prototype", color=SOFT)


def _placed_names(stars: Mapping[int, Place], classes: ClassTable, area: Box) -> dict[int, tuple[Box, bool]]:
    """Where each star's name stands, and whether a line must lead there because it could be another star's name. Names
    hide neither stars nor names, and lie away from the middle of all stars."""
    middle = fmean(x for x, _ in stars.values()), fmean(y for _, y in stars.values())
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in stars.values()]
    placed = {}
    for k, star in sorted(stars.items(), key=lambda item: -dist(item[1], middle)):
        outwards = atan2(star[1] - middle[1], star[0] - middle[0])
        box = free_box(star, (text_width(_name(classes, k)) + 4, 15), outwards, area, taken)
        taken.append(box)
        others = [other for other in stars.values() if other != star]
        unclear = any(dist(_nearest_point(box, other), other) < 14 for other in others)
        placed[k] = box, unclear or dist(_nearest_point(box, star), star) > 16
    return placed


def free_box(point: Place, size: tuple[float, float], direction: float, area: Box, taken: Sequence[Box]) -> Box:
    """A place of size (width, height) near a point inside the area: the nearest one that hides nothing of `taken`, else
    the one that hides least. direction: angle that is tried first."""
    (x, y), (width, height) = point, size
    best, least = (area[0], y - height / 2, area[0] + width, y + height / 2), float("inf")
    for distance in (12, 18, 28, 40, 54, 70, 90, 115, 145):
        for turn in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8):
            angle = direction + turn * pi / 8
            middle = x + cos(angle) * (distance + width / 2), y + sin(angle) * (distance + height / 4)
            box = (middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)
            if box[0] < area[0] or box[1] < area[1] or box[2] > area[2] or box[3] > area[3]:
                continue
            hidden = sum(_shared(box, other) for other in taken)
            if not hidden:
                return box
            if hidden < least:
                best, least = box, hidden
    return best


def _name(classes: ClassTable, k: int) -> str:
    return fitted(classes.names[k], 150)


def _nearest_point(box: Box, point: Place) -> Place:
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _shared(a: Box, b: Box) -> float:
    """Area of the intersection."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
