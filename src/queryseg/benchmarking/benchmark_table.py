"""A benchmark on the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from queryseg.benchmarking.benchmark_result import LARGE_SPREAD, BenchmarkResult
from queryseg.benchmarking.measurement import STAGES, Measurement, share
from queryseg.benchmarking.timing_statistics import Durations, Interval, paired_ratio

NONE = "–"
INDENT = "\N{EM SPACE}"  # HTML keeps it
_NARROW = {
    "preprocess": "pre-\nprocess",
    "parameters": "para-\nmeters",
    "infer p50": "infer\np50",
    "end to end": "end\nto end",
    "time × limit": "time\n× limit",
}
"""Heads that would make a column of the terminal wider than its figures."""
_NAME = 12
"""Characters that a name has on the terminal at least."""
PARTS = ("decode", *STAGES, "draw")

Rows = list[list[str]]
"""The first one is the head, the first column names."""


def terminal(result: BenchmarkResult) -> Group:
    """All tables, what each figure includes, and warnings last, where they are seen."""
    parts: list[RenderableType] = [
        Text(f"{result.workload}; {machine_line(result)}; {precision_line(result)}"),
        FittedTable("time in ms", time_rows(result), time_note(result)),
        FittedTable("cost", [row[:1] + row[2:] for row in cost_rows(result)], cost_note(result)),
    ]
    if any(one.stages for one in result.measurements):
        parts.append(FittedTable("parts, p50 in ms", stage_rows(result), STAGE_NOTE))
        parts.append(FittedTable("parts in full, times in ms", detail_rows(result), DETAIL_NOTE))
    for sweep in result.sweeps:
        parts.append(
            FittedTable(f"infer over {sweep.quantity}, p50 in ms", sweep_rows(result, sweep.quantity), SWEEP_NOTE)
        )
    parts.append(Text("What infer includes", style="bold"))
    parts += [Text(f"  {names}: {includes}") for names, includes in included(result).items()]
    parts += [Text(note) for note in result.notes]
    parts += [Text(f"WARNING: {warning}", style="bold red") for warning in result.warnings]
    return Group(*parts)


# ───────────────────────────── rows, for every output ─────────────────────────────


def time_rows(result: BenchmarkResult) -> Rows:
    """A row per candidate: percentiles of infer, its ratio (of candidates in another form, such as RUN@onnx, also to
    the run itself), end to end."""
    head = ["candidate", "infer p50", "p95", "p99", "spread", f"× {short(result)}", "× source", "end to end"]
    reference = result[result.reference]
    rows = [head]
    for one in result.measurements:
        source = result.source_of(one)
        infer = Durations.of(one.infer)
        ends = one.end_to_end
        rows.append(
            [
                one.facts.name,
                *(milliseconds(value) for value in (infer.p50, infer.p95, infer.p99)),
                f"{infer.spread:.0%}{' !' if infer.spread > LARGE_SPREAD else ''}",
                interval(paired_ratio(one.infer, reference.infer)),
                NONE if source is None else three_digits(paired_ratio(one.infer, source.infer).median),
                NONE if ends is None else milliseconds(Durations.of(ends).p50),
            ]
        )
    return _without_empty(rows)


def cost_rows(result: BenchmarkResult) -> Rows:
    """A row per candidate: parameters, memory, FLOPs; columns that nobody fills are left out."""
    name, reference = short(result), result[result.reference]
    head = [
        "candidate", "precision", "parameters", "memory", f"× {name}", "FLOPs", f"× {name}", "time × limit",
    ]  # fmt: skip
    rows = [head]
    for one in result.measurements:
        facts, limit = one.facts, one.times_limit
        rows.append(
            [
                facts.name,
                precision_of(one),
                NONE if facts.parameters is None else f"{facts.parameters / 1e6:.2f} M",
                NONE if one.memory_bytes is None else megabytes(one.memory_bytes),
                ratio(share(one.memory_bytes, reference.memory_bytes)),
                NONE if one.total_flops is None else flops_text(one.total_flops),
                ratio(share(one.total_flops, reference.total_flops)),
                NONE if limit is None else interval(limit),
            ]
        )
    return _without_empty(rows)


def stage_rows(result: BenchmarkResult) -> Rows:
    """Columns that no candidate has are left out."""
    timed = [one for one in result.measurements if one.stages]
    columns = [name for name in PARTS if any(name in one.stages for one in timed) or name in ("decode", "draw")]
    rows = [["candidate", *columns, "sum", "end to end"]]
    for one in timed:
        parts = part_seconds(one)
        total, ends = one.stage_sum, one.end_to_end
        rows.append(
            [
                one.facts.name,
                *(NONE if name not in parts else milliseconds(parts[name]) for name in columns),
                NONE if total is None else milliseconds(Durations.of(total).p50),
                NONE if ends is None else milliseconds(Durations.of(ends).p50),
            ]
        )
    return rows


def detail_rows(result: BenchmarkResult) -> Rows:
    """A row per part, below a row with the candidate's name."""
    head = [
        "part", "p50", "p95", "p99", "spread", f"× {short(result)}", "parameters", "memory", "FLOPs", "× limit",
    ]  # fmt: skip
    rows = [head]
    for one in result.measurements:
        if not one.stages:
            continue
        rows.append([one.facts.name, *[""] * (len(head) - 1)])
        given = {"decode": one.decode, **one.stages, "draw": one.draw}
        for part in PARTS:
            seconds = given.get(part)
            if seconds is not None:
                rows.append([INDENT + part, *_detail(one, part, seconds, result[result.reference].infer)])
    return rows


def _detail(one: Measurement, part: str, seconds: Sequence[float], reference: Sequence[float]) -> list[str]:
    times, cost = Durations.of(seconds), None if one.costs is None else one.costs.get(part)
    limit = one.stage_times_limit(part) if part in one.stages else None
    return [
        *(milliseconds(value) for value in (times.p50, times.p95, times.p99)),
        f"{times.spread:.0%}",
        three_digits(paired_ratio(seconds, reference).median),
        NONE if cost is None or not cost.parameters else f"{cost.parameters / 1e6:.2f} M",
        NONE if cost is None else megabytes(cost.peak_bytes),
        NONE if cost is None or not cost.flops else flops_text(cost.flops),
        NONE if limit is None else three_digits(limit.median),
    ]


def part_seconds(one: Measurement) -> dict[str, float]:
    """Part → its p50, in order of the way; stages only where they were timed."""
    given = {"decode": one.decode, **one.stages, "draw": one.draw}
    return {name: Durations.of(given[name]).p50 for name in PARTS if given.get(name)}  # type: ignore[arg-type]


def sweep_rows(result: BenchmarkResult, quantity: str) -> Rows:
    """A row per candidate: p50 at every point and the exponent."""
    sweep = next(one for one in result.sweeps if one.quantity == quantity)
    rows = [["candidate", *sweep.labels, "exponent"]]
    for name, points in sweep.seconds.items():
        exponent = sweep.exponent(name)
        cells = (milliseconds(Durations.of(points[i]).p50) if i in points else NONE for i in range(len(sweep.labels)))
        rows.append([name, *cells, NONE if exponent is None else interval(exponent)])
    return rows


def included(result: BenchmarkResult) -> dict[str, str]:
    """Names of candidates → what `infer` includes, the same words once."""
    names: dict[str, list[str]] = {}
    for one in result.measurements:
        names.setdefault(one.facts.includes, []).append(one.facts.name)
    return {", ".join(together): includes for includes, together in names.items()}


# ───────────────────────────── words ─────────────────────────────


STAGE_NOTE = (
    "Between stages the device is waited for, so their sum may exceed the end-to-end time, which runs infer in one "
    "call. decode reads a JPEG from the system's cache; draw paints the overlay; no picture is written."
)
DETAIL_NOTE = (
    "memory: what the part allocates at once, on top of the weights and of what the part before handed over; ratios "
    "are medians over rounds. Parts without FLOPs have no limit, and cost time all the same."
)
SWEEP_NOTE = "exponent e: time ∝ quantity^e, least squares on logarithms, median over rounds [quartiles]."


def short(result: BenchmarkResult) -> str:
    """What ratios refer to, as heads of columns say it."""
    return "bare" if result.reference == "bare" else "first"


def time_note(result: BenchmarkResult) -> str:
    """What the columns of `time_rows` mean."""
    return (
        f"Medians of {result.settings.rounds} rounds in turns, after {result.warmup} of warm-up. spread: interquartile "
        f"range over median. × {short(result)}: median of the rounds' own ratios to {result.reference} [quartiles]. "
        "infer: host to host, preprocess to readout; end to end: decode + infer + draw."
    )


def _without_empty(rows: Rows) -> Rows:
    """Columns behind the second that nobody fills are left out."""
    known = [i for i in range(len(rows[0])) if i < 2 or any(row[i] != NONE for row in rows[1:])]
    return [[row[i] for i in known] for row in rows]


def cost_note(result: BenchmarkResult) -> str:
    """What the columns of `cost_rows` mean."""
    return (
        "memory: weights and the peak of what one inference allocates. FLOPs: matrix products, convolutions, "
        "attention; 2 per multiply–add. time × limit: infer over the time of as many FLOPs in a "
        f"{limit_text(result)} of the same round. {NONE}: torch does not see it."
    )


def limit_text(result: BenchmarkResult) -> str:
    """The matrix products and what they reached."""
    speeds = {one.limit_name: one.limit_speed / 1e9 for one in result.measurements}
    return " or ".join(f"{name} ({speed:,.0f} GFLOP/s)" for name, speed in speeds.items())


def machine_line(result: BenchmarkResult) -> str:
    """Processor or GPU, threads, torch."""
    facts = result.hardware
    versions = f"torch {result.versions['torch']}"
    return f"{facts.get('gpu') or facts['cpu']}, {facts['threads']} threads of {facts['cores']} cores, {versions}"


def precision_line(result: BenchmarkResult) -> str:
    """One word where all candidates share it."""
    names: dict[str, list[str]] = {}
    for one in result.measurements:
        names.setdefault(precision_of(one), []).append(one.facts.name)
    if len(names) == 1:
        return next(iter(names))
    return ", ".join(f"{precision} ({', '.join(together)})" for precision, together in names.items())


def precision_of(one: Measurement) -> str:
    """With a word for compiled candidates."""
    return f"{one.facts.precision}{', compiled' if one.facts.compiled else ''}"


def milliseconds(seconds: float) -> str:
    """Without the unit."""
    return three_digits(1000 * seconds)


def three_digits(value: float) -> str:
    """1.234 → "1.23", 12.34 → "12.3", 1234 → "1,234"."""
    size = abs(value)
    return f"{value:,.{2 if size < 10 else 1 if size < 100 else 0}f}"


def flops_text(flops: int) -> str:
    """Three significant digits: "90.2 G", "1.45 T"."""
    unit, scale = next((pair for pair in (("T", 1e12), ("G", 1e9)) if flops >= pair[1]), ("M", 1e6))
    return f"{three_digits(flops / scale)} {unit}"


def megabytes(count: int) -> str:
    """In MiB, with the unit."""
    return f"{count / 2**20:,.{0 if count >= 2**27 else 1}f} MiB"


def interval(found: Interval) -> str:
    """Median and quartiles."""
    return f"{three_digits(found.median)} [{three_digits(found.low)}, {three_digits(found.high)}]"


def ratio(value: float | None) -> str:
    """Three digits, or a dash where it is unknown."""
    return NONE if value is None else three_digits(value)


def broken(name: str, width: int) -> str:
    """On lines of this width as far as its joints allow: RUN@FORM before the @, else behind a space, slash, underscore,
    hyphen or colon. Lines behind the first are indented."""
    lines = [""]
    for piece in re.findall(r"@?[^\s/_:@-]+[\s/_:-]*|[\s/_:@-]+", name):
        if lines[-1] and (len(f"{lines[-1]}{piece}".rstrip()) > width or piece.startswith("@")):
            lines.append(" ")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True)
class FittedTable:
    """A table whose names are broken where the terminal is too narrow for them beside all figures."""

    title: str
    rows: Sequence[Sequence[str]]
    caption: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = _table(self.title, self.rows, self.caption)
        excess = console.measure(table, options=options.update(max_width=10**6)).maximum - options.max_width
        if excess > 0:
            names = [row[0] for row in self.rows[1:]]
            width = max(max(map(len, names)) - excess, _NAME)
            rows = [
                [name if len(name) <= width else broken(name, width), *row[1:]]
                for name, row in zip(names, self.rows[1:], strict=True)
            ]
            table = _table(self.title, [self.rows[0], *rows], self.caption)
        yield table


def _table(title: str, rows: Sequence[Sequence[str]], caption: str) -> Table:
    table = Table(
        title=title,
        caption=escape(caption),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1 if len(rows[0]) < 9 else 0, 0, 0),
    )
    table.add_column(escape(rows[0][0]), overflow="fold", min_width=_NAME)
    for name in rows[0][1:]:  # a figure is read at a glance or not at all
        table.add_column(_NARROW.get(name, escape(name)), justify="right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*_escaped(row))
    return table


def _escaped(row: Iterable[str]) -> Iterable[str]:
    return (escape(cell) for cell in row)
