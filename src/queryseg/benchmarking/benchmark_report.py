"""A benchmark as one HTML page and its plots as files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from queryseg.benchmarking.benchmark_pictures import Plot, plots
from queryseg.benchmarking.benchmark_result import BenchmarkResult
from queryseg.benchmarking.benchmark_table import (
    DETAIL_NOTE,
    INDENT,
    STAGE_NOTE,
    SWEEP_NOTE,
    cost_note,
    cost_rows,
    detail_rows,
    included,
    limit_text,
    machine_line,
    milliseconds,
    stage_rows,
    sweep_rows,
    time_note,
    time_rows,
)
from queryseg.benchmarking.timing_statistics import Durations, paired_ratio
from queryseg.errors import InputError
from queryseg.evaluation.chart import DENSITY
from queryseg.evaluation.page import definitions, figure_boxes, inline_image, section, write_page


def write_report(result: BenchmarkResult, folder: str | Path) -> None:
    """report.html and one PNG per plot. Raises: InputError if something cannot be written"""
    folder = Path(folder)
    drawn = plots(result)
    for plot in drawn:
        path = folder / f"{plot.file}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            plot.picture.save(path)
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}); choose another folder.") from None
    stages = stage_rows(result)
    parts = [
        section("Take these figures with care", "".join(_warning(text) for text in result.warnings)),
        figure_boxes(_boxes(result)),
        section("Time in ms", _table(time_rows(result), time_note(result))),
        *(_section(plot) for plot in drawn[:2]),
        section("Parts, p50 in ms", _table(stages, STAGE_NOTE) if len(stages) > 1 else ""),
        section("Parts in full, times in ms", _table(detail_rows(result), DETAIL_NOTE) if len(stages) > 1 else ""),
        section("Cost", _table(cost_rows(result), cost_note(result))),
        *(
            section(plot.title, _figure(plot) + _table(sweep_rows(result, sweep.quantity), SWEEP_NOTE))
            for plot, sweep in zip(drawn[2:], result.sweeps, strict=True)
        ),
        section("What infer includes", definitions(included(result))),
        section("Candidates", definitions({one.facts.name: one.facts.description for one in result.measurements})),
        section("Machine and protocol", definitions(_protocol(result))),
    ]
    names = ", ".join(one.facts.name for one in result.measurements)
    write_page(folder / "report.html", "Benchmark", f"{names}. {result.workload}; {machine_line(result)}.", parts)


def _boxes(result: BenchmarkResult) -> list[tuple[str, str]]:
    """Of the first candidate: what a reader came for."""
    first = result.measurements[0]
    ends, reference = first.end_to_end, result[result.reference]
    boxes = [(f"{milliseconds(Durations.of(first.infer).p50)} ms", f"infer of {first.facts.name}, p50")]
    if ends is not None:
        boxes.append((f"{milliseconds(Durations.of(ends).p50)} ms", "from file to picture, p50"))
    if first is not reference:
        found = paired_ratio(first.infer, reference.infer)
        boxes.append((f"{found.median:.2f} ×", f"infer over {result.reference}"))
    return boxes


def _protocol(result: BenchmarkResult) -> dict[str, str]:
    before, after = result.load_average
    return {
        "machine": machine_line(result),
        "device": str(result.hardware["device"]),
        "images": f"{result.workload}: a generated street as JPEG of quality 90",
        "rounds": f"{result.settings.rounds} in rotating order, after {result.warmup} of warm-up",
        "FLOP limit": limit_text(result),
        "load average": "" if before is None or after is None else f"{before:.2f} before, {after:.2f} after",
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "notes": " ".join(result.notes),
    }


def _warning(text: str) -> str:
    return f'<p style="color: var(--wrong); font-weight: 600; margin: 4px 0">{escape(text)}</p>'


def _section(plot: Plot) -> str:
    return section(plot.title, _figure(plot))


def _figure(plot: Plot) -> str:
    image = inline_image(plot.title, plot.picture, "png", DENSITY)
    return f'<p class="soft">{escape(plot.explanation)}</p><div class="panels">{image}</div>'


def _table(rows: Sequence[Sequence[str]], note: str) -> str:
    head, *body = ("".join(_cell(cell, number, tag) for number, cell in enumerate(row)) for row, tag in _tagged(rows))
    lines = "".join(f"<tr>{line}</tr>" for line in body)
    return (
        f'<div class="scroll"><table class="domains"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
        f'<p class="soft">{escape(note)}</p>'
    )


def _tagged(rows: Sequence[Sequence[str]]) -> list[tuple[Sequence[str], str]]:
    return [(row, "th" if number == 0 else "td") for number, row in enumerate(rows)]


def _cell(text: str, column: int, tag: str) -> str:
    if column == 0:
        style = ' style="font-weight: 400"' if text.startswith(INDENT) else ""
        return f"<th{style}>{escape(text)}</th>"
    return f'<{tag} class="number">{escape(text)}</{tag}>'
