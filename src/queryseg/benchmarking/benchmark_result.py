"""How to measure, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from queryseg.benchmarking.measurement import Measurement, Sweep
from queryseg.benchmarking.timing_statistics import Durations
from queryseg.benchmarking.workload import Workload
from queryseg.errors import InputError
from queryseg.inference.engine import Size

LARGE_SPREAD = 0.10
"""Interquartile range over median from which on a benchmark warns."""
BUSY = 0.5
"""Load average before the start from which on other work disturbs."""
ENOUGH = 20
"""Rounds below which high percentiles are hardly more than the slowest round."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    rounds   that count
    warmup   rounds before them, at least; more until times have settled. 0: none
    stages   time the stages apart, too
    sizes    (h, w) of the size sweep, beside the workload's
    batches  of the batch sweep, likewise
    matrix   side of the matrix product; None: by device

    Raises: InputError
    """

    rounds: int = 20
    warmup: int = 3
    stages: bool = True
    sizes: Sequence[Size] = ()
    batches: Sequence[int] = ()
    matrix: int | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"{self.rounds} rounds measure nothing; give at least 1.")
        if self.warmup < 0:
            raise InputError(f"{self.warmup} rounds of warm-up cannot be; give 0 or more.")


@dataclass(frozen=True)
class BenchmarkResult:
    """measurements: in the candidates' order; reference: the name that ratios refer to; load_average: before the start
    and at the end; warmup: rounds; settled: whether times had stopped falling after them; notes: what was left out."""

    workload: Workload
    settings: Settings
    measurements: Sequence[Measurement]
    sweeps: Sequence[Sweep]
    reference: str
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]
    load_average: tuple[float | None, float | None]
    warmup: int
    settled: bool
    notes: Sequence[str]

    def __getitem__(self, name: str) -> Measurement:
        return next(one for one in self.measurements if one.facts.name == name)

    def source_of(self, one: Measurement) -> Measurement | None:
        """What a candidate in another form (`RUN@openvino:int8`) was made from, if that took part."""
        source, at, _ = one.facts.name.rpartition("@")
        return next((other for other in self.measurements if at and other.facts.name == source), None)

    @property
    def warnings(self) -> list[str]:
        """Why these figures may not be trusted, loudest first."""
        found, before = [], self.load_average[0]
        if before is not None and before > BUSY:
            found.append(
                f"Other work was running: the load average was {before:.1f} before the start. Absolute times are too "
                "long; ratios suffer less. Repeat on an idle machine."
            )
        spreads = {one.facts.name: Durations.of(one.infer).spread for one in self.measurements}
        wide = [f"{name} {spread:.0%}" for name, spread in spreads.items() if spread > LARGE_SPREAD]
        if wide:
            found.append(
                f"Times vary widely (interquartile range over median: {', '.join(wide)}); small differences mean "
                "nothing here. Use more --rounds on an idle machine."
            )
        if not self.settled:
            found.append(f"Times were still falling after {self.warmup} rounds of warm-up; use a larger --warmup.")
        if self.settings.rounds < ENOUGH:
            found.append(f"{self.settings.rounds} rounds say little about p95 and p99; use at least {ENOUGH}.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything, with the time of every round in ms."""
        reference = self[self.reference]
        protocol = {
            **asdict(self.workload),
            "frame": self.workload.frame_size,
            **asdict(self.settings),
            "warmup": self.warmup,
            "flops_are": "matrix products, convolutions and attention; 2 per multiply-add",
            "memory_is": "weights and the peak of what one inference allocates",
            "reference": self.reference,
            "ratios_are": f"medians over rounds of the round's own ratio to infer of {self.reference}",
            "infer_is": "host to host: uint8 image to uint8 labels at the frame's size, as `includes` says",
            "end_to_end_is": "decode + infer + draw; files are read from the system's cache, nothing is written",
        }
        return {
            "protocol": protocol,
            "hardware": dict(self.hardware),
            "versions": dict(self.versions),
            "load_average": {"before": self.load_average[0], "after": self.load_average[1]},
            "flop_limit": {one.limit_name: one.limit_json() for one in self.measurements},
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "candidates": [
                one.to_json(reference, self.workload.batch, self.source_of(one)) for one in self.measurements
            ],
            "sweeps": [sweep.to_json() for sweep in self.sweeps],
        }
