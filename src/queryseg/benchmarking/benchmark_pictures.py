"""The plots of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log2

import numpy as np
from PIL import Image

from queryseg.benchmarking.benchmark_result import BenchmarkResult
from queryseg.benchmarking.benchmark_table import PARTS, interval, milliseconds, part_seconds
from queryseg.benchmarking.measurement import Measurement, Sweep
from queryseg.benchmarking.timing_statistics import Durations, Interval, paired_ratio
from queryseg.evaluation.chart import INK, LINE, PAPER, SOFT, Chart, Color, fitted, text_width
from queryseg.evaluation.curve import ticks

_WIDTH, _MARGIN, _ROW = 1060, 14, 30
_NAME = 240  # widest name of a candidate
_CURVES: Sequence[Color] = (
    (42, 111, 151), (200, 85, 61), (88, 129, 87), (142, 107, 191), (184, 134, 11), (74, 90, 104),
)  # fmt: skip
_COLORS: Mapping[str, Color] = {
    "decode": (200, 205, 209),
    "preprocess": (233, 196, 106),
    "backbone": (42, 157, 143),
    "head": (226, 132, 50),
    "network": (42, 111, 151),
    "infer": (42, 111, 151),
    "readout": (142, 107, 191),
    "draw": (150, 158, 165),
}


@dataclass(frozen=True)
class Plot:
    """file: name without extension; title and explanation stand above it in the report."""

    file: str
    title: str
    explanation: str
    picture: Image.Image


def plots(result: BenchmarkResult) -> list[Plot]:
    """All that there is something to draw for."""
    found = [
        Plot(
            "parts",
            "Where the time goes",
            "p50 of every part; the line is the end-to-end time, in which infer runs in one call. Candidates whose "
            "stages were not timed apart show infer as one bar; the bare backbone has nothing around it.",
            _parts(result),
        ),
        Plot(
            "ratios",
            f"Time of infer over {result.reference}",
            "One dot per round: the ratio of two runs of the same round. Box: quartiles; line: median. Rounds "
            "far beyond the others are not drawn.",
            _ratios(result),
        ),
    ]
    for sweep in result.sweeps:
        found.append(
            Plot(
                f"sweep_{sweep.quantity}",
                f"Time of infer over {sweep.quantity}",
                "Both axes logarithmic. The exponent is the slope: 1 is proportional; whiskers are quartiles.",
                _scaling(sweep),
            )
        )
    return found


def _parts(result: BenchmarkResult) -> Image.Image:
    shown = {one.facts.name: _bars(one) for one in result.measurements}
    ends = {
        one.facts.name: None if (e := one.end_to_end) is None else Durations.of(e).p50 for one in result.measurements
    }
    used = [name for name in _COLORS if any(name in parts for parts in shown.values())]
    longest = max(max(sum(parts.values()), ends[name] or 0) for name, parts in shown.items())
    chart, left, top, x = _rows(list(shown), 1000 * longest, "ms", 44, 90)
    _legend(chart, [(name, _COLORS[name]) for name in used], left)
    for row, (name, parts) in enumerate(shown.items()):
        y, begin = top + row * _ROW, 0.0
        for part, seconds in parts.items():
            end = begin + 1000 * seconds
            chart.rectangle((x(begin), y + 5, x(end), y + _ROW - 7), _COLORS[part])
            begin = end
        whole = ends[name]
        if whole is not None:
            chart.line((x(1000 * whole), y + 1, x(1000 * whole), y + _ROW - 3), INK, 2)
        text = milliseconds(sum(parts.values()) if whole is None else whole)
        chart.text(x(max(begin, 1000 * (whole or 0))) + 6, y + _ROW / 2 - 1, f"{text} ms", 11, SOFT, halo=True)
    return chart.picture()


def _bars(one: Measurement) -> dict[str, float]:
    parts = part_seconds(one)
    if one.stages:
        return parts
    own = "backbone" if one.decode is None else "infer"
    return {name: parts[name] if name in parts else Durations.of(one.infer).p50 for name in (*PARTS[:1], own, "draw")
            if name in parts or name == own}  # fmt: skip


def _ratios(result: BenchmarkResult) -> Image.Image:
    reference = result[result.reference].infer
    ratios = {one.facts.name: [a / b for a, b in zip(one.infer, reference, strict=True)] for one in result.measurements}
    medians = {one.facts.name: paired_ratio(one.infer, reference) for one in result.measurements}
    # single rounds that went wrong must not squeeze the rest
    highest = max(max(float(np.percentile(values, 95)), 1.25 * medians[name].high) for name, values in ratios.items())
    chart, _, top, x = _rows(list(ratios), highest, "×", 22, 190)
    for row, (name, values) in enumerate(ratios.items()):
        middle, found = top + row * _ROW + _ROW / 2 - 1, medians[name]
        chart.rectangle((x(found.low), middle - 8, x(found.high), middle + 8), (*_CURVES[0], 60))
        chart.line((x(found.median), middle - 10, x(found.median), middle + 10), _CURVES[0], 2.5)
        for value in values:
            if value <= highest:
                chart.disc(x(value), middle, 2.5, (*INK, 110))
        chart.text(_WIDTH - _MARGIN, middle, interval(found), 11, SOFT, "rm", halo=True)
    return chart.picture()


def _scaling(sweep: Sweep) -> Image.Image:
    shown = {name: points for name, points in sweep.seconds.items() if points}
    height = max(420, 40 * len(shown) + 30)
    left, right, top, bottom = 70, _WIDTH - 330, 24, height - 46
    quartiles = {
        name: {index: Interval.of([1000 * s for s in seconds]) for index, seconds in points.items()}
        for name, points in shown.items()
    }
    values = [value for points in quartiles.values() for one in points.values() for value in (one.low, one.high)]
    low, high = floor(log2(min(values))), ceil(log2(max(values)))
    high = max(high, low + 1)
    first, last = log2(min(sweep.amounts)), log2(max(sweep.amounts))
    chart = Chart(_WIDTH, height)

    def x(index: int) -> float:
        return left + (log2(sweep.amounts[index]) - first) / max(last - first, 1e-9) * (right - left - 24) + 12

    def y(value: float) -> float:
        return bottom - (log2(value) - low) / (high - low) * (bottom - top)

    step = max(1, ceil((high - low) / 8))
    for power in range(low, high + 1, step):
        chart.line((left, y(2.0**power), right, y(2.0**power)))
        chart.text(left - 8, y(2.0**power), f"{2.0**power:g}", 11, SOFT, "rm")
    chart.text(left - 8, top - 14, "ms", 11, SOFT, "rm")
    for index, label in enumerate(sweep.labels):
        chart.line((x(index), top, x(index), bottom))
        chart.text(x(index), bottom + 8, label, 11, SOFT, "ma")
    chart.text((left + right) / 2, height - 12, f"{sweep.quantity}{' of an image' * (sweep.quantity == 'pixels')}", 11,
               SOFT, "mm")  # fmt: skip
    for number, (name, points) in enumerate(quartiles.items()):
        color = _CURVES[number % len(_CURVES)]
        ends = [(x(index), y(one.median)) for index, one in points.items()]
        for (x0, y0), (x1, y1) in pairwise(ends):
            chart.line((x0, y0, x1, y1), color, 2)
        for index, one in points.items():
            chart.line((x(index), y(one.low), x(index), y(one.high)), color, 1.5)
            _mark(chart, x(index), y(one.median), color, number)
        line = top + 8 + 40 * number
        _mark(chart, right + 24, line, color, number)
        chart.text(right + 36, line, fitted(name, _WIDTH - right - 50, 12), 12)
        exponent = sweep.exponent(name)
        text = "one point" if exponent is None else f"exponent {interval(exponent)}"
        chart.text(right + 36, line + 16, text, 11, SOFT)
    return chart.picture()


def _mark(chart: Chart, x: float, y: float, color: Color, number: int) -> None:
    """Colours repeat after six candidates; then discs are hollow."""
    chart.disc(x, y, 4, color if number < len(_CURVES) else PAPER, color)


def _rows(
    names: Sequence[str], highest: float, unit: str, top: float, right_margin: float
) -> tuple[Chart, float, float, Callable[[float], float]]:
    """A chart with a row per name and an axis from 0: chart, left and top of the rows, value → x."""
    width = min(_NAME, max(text_width(name) for name in names) + 12)
    left, right = _MARGIN + width, _WIDTH - right_margin
    bottom = top + _ROW * len(names)
    chart = Chart(_WIDTH, round(bottom) + 34)
    levels = ticks(highest)
    scale = max(levels[-1], 1e-9)

    def x(value: float) -> float:
        return left + value / scale * (right - left)

    for level in levels:
        chart.line((x(level), top - 4, x(level), bottom))
        chart.text(x(level), bottom + 8, f"{level:g} {unit}", 11, SOFT, "ma")
    for row, name in enumerate(names):
        chart.text(left - 8, top + row * _ROW + _ROW / 2 - 1, fitted(name, width - 10), anchor="rm")
    chart.line((left, top - 4, left, bottom), LINE, 1.5)
    return chart, left, top, x


def _legend(chart: Chart, entries: Sequence[tuple[str, Color]], left: float) -> None:
    for name, color in entries:
        chart.rectangle((left, 12, left + 12, 24), color)
        chart.text(left + 18, 18, name, 12, SOFT)
        left += 34 + text_width(name)
