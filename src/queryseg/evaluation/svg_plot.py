"""Plots of two quantities as SVG that takes its colours from the page around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10

from queryseg.evaluation.chart import Box, text_width

Point = tuple[float, float]


@dataclass
class SvgPlot:
    """Axes, and what is drawn on them, in the order in which it is added.

    x_range, y_range  of values; x_log: the horizontal axis is logarithmic
    width, height     in pixels of a page
    """

    title: str
    x_range: Point
    y_range: Point
    x_label: str
    y_label: str
    x_log: bool = False
    width: int = 520
    height: int = 340
    parts: list[str] = field(default_factory=list)

    @property
    def area(self) -> Box:
        """Left, top, right, bottom of what lies between the axes."""
        return 52, 30, self.width - 16, self.height - 46

    def x(self, value: float) -> float:
        low, high = self.x_range
        left, _, right, _ = self.area
        share = log10(value / low) / log10(high / low) if self.x_log else (value - low) / (high - low)
        return left + share * (right - left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        _, top, _, bottom = self.area
        return bottom - (value - low) / (high - low) * (bottom - top)

    def grid(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
        left, top, right, bottom = self.area
        for tick in y_ticks:
            self._line((left, self.y(tick)), (right, self.y(tick)), "grid")
            self.text((left - 7, self.y(tick) + 4), f"{tick:g}", anchor="end")
        for tick in x_ticks:
            self._line((self.x(tick), top), (self.x(tick), bottom), "grid")
            self.text((self.x(tick), bottom + 16), f"{tick:g}", anchor="middle")
        self.text(((left + right) / 2, self.height - 8), self.x_label, anchor="middle")
        self.text((left - 38, top - 14), self.y_label)

    def polyline(self, points: Sequence[Point], kind: str) -> None:
        """points: values; kind: class of the stylesheet"""
        line = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{line}" class="{kind}"/>')

    def mark(self, point: Point, kind: str, said: str, radius: float = 5) -> None:
        """A disc. said: shown where the pointer rests"""
        x, y = self.x(point[0]), self.y(point[1])
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}"><title>{escape(said)}</title></circle>'
        )

    def text(self, at: Point, text: str, kind: str = "", anchor: str = "start") -> None:
        """at: pixels of the plot"""
        kind = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>')

    def svg(self) -> str:
        return (
            f'<svg class="chart plot" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'style="max-width:{self.width}px" aria-label="{escape(self.title)}">{"".join(self.parts)}</svg>'
        )

    def _line(self, start: Point, end: Point, kind: str) -> None:
        (x1, y1), (x2, y2) = start, end
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low … high; low > 0."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def linear_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within low … high."""
    power = 10 ** floor(log10((high - low) / 3))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= 6)
    return [round(i * step, 9) for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def label_size(text: str, size: int) -> Point:
    """(width, height) that a name takes beside its mark; a page's own letters may be a little wider than ours."""
    return 1.05 * text_width(text, size) + 4, size + 3
