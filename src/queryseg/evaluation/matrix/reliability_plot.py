"""How far the runs' confidence can be taken at its word."""

from __future__ import annotations

from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.svg_plot import SvgPlot
from queryseg.metrics.calibration import ReliabilityDiagram

_TICKS = (0, 20, 40, 60, 80, 100)
_NUM_COLORS = 6


def reliability_plots(matrix: DomainMatrix) -> list[str]:
    """SVG of every target: share of right pixels against confidence, a line per run; [] if calibration was not
    measured."""
    return [_plot(matrix, t) for t in matrix.targets if "calibration" in matrix.evaluation(matrix.runs[0], t).measures]


def _plot(matrix: DomainMatrix, target: str) -> str:
    title, y_label = f"reliability on {target}", f"{target}: right pixels in %"
    plot = SvgPlot(title, (0, 100), (0, 100), "confidence in %", y_label, width=360, height=300)
    plot.grid(_TICKS, _TICKS)
    plot.polyline([(0, 0), (100, 100)], "diagonal")
    for number, run in enumerate(matrix.runs):
        measured = matrix.evaluation(run, target).measures["calibration"]
        diagram = ReliabilityDiagram.of(measured)
        rows = zip(diagram.confidence.tolist(), diagram.accuracy.tolist(), diagram.num_pixels.tolist(), strict=True)
        bins = [(100 * confidence, 100 * accuracy, pixels) for confidence, accuracy, pixels in rows if pixels]
        plot.polyline([(x, y) for x, y, _ in bins], f"curve-{number % _NUM_COLORS}")
        for x, y, pixels in bins:
            plot.mark(
                (x, y), f"fill-{number % _NUM_COLORS}", f"{y:.1f} % of {pixels:,.0f} pixels right at {x:.1f} %", 3
            )
        error = percent(measured.scores()["expected_calibration_error"])
        left, top, _, _ = plot.area
        text = f"{run}: error {error} %" if len(matrix.runs) > 1 else f"calibration error {error} %"
        plot.text((left + 10, top + 16 + 16 * number), text, f"name-{number % _NUM_COLORS} run")
    return plot.svg()
