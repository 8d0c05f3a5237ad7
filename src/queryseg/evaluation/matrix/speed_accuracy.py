"""mIoU under shift against milliseconds per image."""

from __future__ import annotations

from itertools import pairwise
from math import isnan, pi

from queryseg.evaluation.chart import Box
from queryseg.evaluation.diagnostics.map_picture import free_box
from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.svg_plot import Point, SvgPlot, label_size, linear_ticks, log_ticks

_LETTERS = 12
_NUM_COLORS = 6


def speed_accuracy_plot(matrix: DomainMatrix) -> str:
    """SVG: runs as discs with their intervals, their Pareto front as steps, published points as circles; "" if no run
    was timed or none has a score under shift."""
    shifted = {run: matrix.shifted(run) for run in matrix.latencies}
    runs = {run: (matrix.latencies[run].median, 100 * e.value) for run, e in shifted.items() if not isnan(e.value)}
    if not runs:
        return ""
    published = {point.name: (point.milliseconds, 100 * point.mean_iou) for point in matrix.published}
    bounds = [100 * bound for run in runs for bound in shifted[run].interval if not isnan(bound)]
    plot = _axes([*runs.values(), *published.values()], bounds, matrix.shift)
    front = _steps([runs[run] for run in matrix.pareto_front() if run in runs], plot.x_range[1])
    plot.polyline(front, "front")
    taken = [_box(plot, *ends) for ends in pairwise(front)]
    for point in matrix.published:
        at = published[point.name]
        limit = ", or more" if point.slower else ""
        said = f"{point.name}: {at[1]:.1f} at {at[0]:.1f} ms{limit}; {point.protocol}"
        plot.mark(at, "published", said)
        taken.append(_around(plot, at))
    for number, (run, at) in enumerate(runs.items()):
        kind, (low, high) = f"curve-{number % _NUM_COLORS}", shifted[run].interval
        fast, slow = matrix.latencies[run].quartiles
        plot.polyline([(fast, at[1]), (slow, at[1])], kind)
        taken.append(_box(plot, (fast, at[1]), (slow, at[1])))
        interval = ""
        if not isnan(low):
            plot.polyline([(at[0], 100 * low), (at[0], 100 * high)], kind)
            interval = f" [{percent(low)}, {percent(high)}]"
            taken.append(_box(plot, (at[0], 100 * low), (at[0], 100 * high)))
        said = f"{run}: {at[1]:.1f}{interval} at {at[0]:.1f} ms, quartiles {fast:.1f} and {slow:.1f}"
        plot.mark(at, f"fill-{number % _NUM_COLORS}", said, 6)
        taken.append(_around(plot, at))
    for number, (run, at) in enumerate(runs.items()):
        _name(plot, run, at, f"name-{number % _NUM_COLORS} run", taken)
    for point in matrix.published:
        _name(plot, f"{point.name} →" if point.slower else point.name, published[point.name], "", taken)
    return plot.svg()


def _axes(points: list[Point], bounds: list[float], shift: str) -> SvgPlot:
    """Room for all points, and for names beside them."""
    times, scores = [x for x, _ in points], [*(y for _, y in points), *bounds]
    margin = max(3.0, 0.12 * (max(scores) - min(scores)))
    x_range = min(times) / 1.6, max(times) * 1.8
    y_range = max(0.0, min(scores) - margin), min(100.0, max(scores) + margin)
    plot = SvgPlot(
        "mIoU under shift against milliseconds per image",
        x_range,
        y_range,
        "milliseconds per image (logarithmic)",
        f"mIoU in %, {shift}",
        x_log=True,
        width=1040,
        height=460,
    )
    plot.grid(log_ticks(*x_range), linear_ticks(*y_range))
    return plot


def _steps(front: list[Point], end: float) -> list[Point]:
    """What the front reaches within a given time: level until the next run is affordable."""
    corners: list[Point] = []
    for x, y in front:
        corners += [(x, corners[-1][1])] if corners else []
        corners.append((x, y))
    return [*corners, (end, corners[-1][1])]


def _box(plot: SvgPlot, start: Point, end: Point) -> Box:
    """What a horizontal or vertical line hides."""
    (x1, x2), (y1, y2) = (
        sorted((place(a), place(b))) for place, a, b in zip((plot.x, plot.y), start, end, strict=True)
    )
    return x1 - 2, y1 - 2, x2 + 2, y2 + 2


def _around(plot: SvgPlot, at: Point) -> Box:
    x, y = plot.x(at[0]), plot.y(at[1])
    return x - 7, y - 7, x + 7, y + 7


def _name(plot: SvgPlot, name: str, at: Point, kind: str, taken: list[Box]) -> None:
    box = free_box((plot.x(at[0]), plot.y(at[1])), label_size(name, _LETTERS), -pi / 8, plot.area, taken)
    taken.append(box)
    plot.text(((box[0] + box[2]) / 2, box[3] - 4), name, kind, "middle")
