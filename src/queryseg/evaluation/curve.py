"""Curves of a run as SVG that takes its colours from the page around it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10
from pathlib import Path

from queryseg.errors import InputError

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 30


def read_curves(path: str | Path) -> dict[str, list[tuple[float, float]]]:
    """Column of a run's metrics.csv → (step, value) of its rows that are not empty.

    Raises: InputError if it cannot be read
    """
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [name for name in (rows[0] if rows else {}) if name != "step"]
        return {name: [(float(row["step"]), float(row[name])) for row in rows if row[name]] for name in columns}
    except OSError as error:
        raise InputError(f"The curves {path} cannot be read ({error.strerror}); give a run's metrics.csv.") from None
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is no metrics.csv: it needs a column 'step' and numbers in all others.") from None


def svg_chart(title: str, curves: Mapping[str, Points]) -> str:
    """Lines over training steps, the vertical axis from 0. Curves are told apart by the classes curve-0, curve-1 …"""
    points = [point for curve in curves.values() for point in curve]
    last_step, highest = max(x for x, _ in points) or 1.0, max(y for _, y in points)
    levels = ticks(highest)
    top = levels[-1]

    def x(step: float) -> float:
        return _LEFT + step / last_step * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts.append(f'<text x="{_LEFT}" y="14" class="chart-title">{escape(title)}</text>')
    for tick in levels:
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(last_step):
        if tick <= last_step:
            parts.append(f'<text x="{x(tick):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{tick:g}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in curve)
        parts.append(f'<polyline points="{line}" class="curve-{number % 6}"/>')
        if len(curves) > 1:
            left = _WIDTH - _RIGHT - 84 * (len(curves) - number)
            parts.append(f'<text x="{left}" y="14" class="name-{number % 6}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def ticks(highest: float) -> list[float]:
    """0 and three to six round numbers; the last one is not below `highest`. Below 1e-9 all is drawn as zero."""
    if highest < 1e-9:
        return [0.0, 1.0]
    power = 10 ** floor(log10(highest / 3))
    step = next(factor * power for factor in (1, 2, 5, 10) if highest / (factor * power) <= 5)
    return [i * step for i in range(-int(-highest // step) + 1)]
