"""What was measured of one candidate, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from queryseg.benchmarking.stage_cost import StageCost
from queryseg.benchmarking.timing_statistics import Durations, Interval, paired_ratio, scaling_exponent

STAGES = ("preprocess", "backbone", "head", "network", "readout")
"""Between decode and draw, in order."""


@dataclass(frozen=True)
class Facts:
    """What a candidate is, see `Candidate`."""

    name: str
    description: str
    includes: str
    precision: str
    device: str
    compiled: bool
    parameters: int | None
    weight_bytes: int


@dataclass(frozen=True)
class Measurement:
    """One candidate at the main workload; every list holds one value per round, in seconds.

    infer          host to host, preprocess … readout in one call (the bare backbone: its forward alone)
    decode, draw   of the same rounds; None: it gives no labels
    stages         stage → times; {}: not timed apart
    costs          stage → FLOPs, memory, parameters; None: torch does not see them
    peak_bytes     allocated by one inference on top of the weights; None likewise
    limit_name     the matrix product in its precision
    limit          times of that product
    limit_flops    of one such product
    """

    facts: Facts
    infer: Sequence[float]
    limit_name: str
    limit: Sequence[float]
    limit_flops: int
    decode: Sequence[float] | None = None
    draw: Sequence[float] | None = None
    stages: Mapping[str, Sequence[float]] = field(default_factory=dict)
    costs: Mapping[str, StageCost] | None = None
    peak_bytes: int | None = None

    @property
    def total_flops(self) -> int | None:
        return None if self.costs is None else sum(cost.flops for cost in self.costs.values())

    @property
    def memory_bytes(self) -> int | None:
        """Weights and what one inference allocates."""
        return None if self.peak_bytes is None else self.facts.weight_bytes + self.peak_bytes

    @property
    def end_to_end(self) -> Sequence[float] | None:
        """decode + infer + draw of each round."""
        if self.decode is None or self.draw is None:
            return None
        return [sum(parts) for parts in zip(self.decode, self.infer, self.draw, strict=True)]

    @property
    def stage_sum(self) -> Sequence[float] | None:
        """decode + all stages + draw of each round."""
        if not self.stages or self.decode is None or self.draw is None:
            return None
        return [sum(parts) for parts in zip(self.decode, *self.stages.values(), self.draw, strict=True)]

    @property
    def times_limit(self) -> Interval | None:
        """Time of `infer` over the time that its FLOPs would take in the matrix product of the same round."""
        return self._times_limit(self.infer, self.total_flops)

    def stage_times_limit(self, stage: str) -> Interval | None:
        """The same of one timed stage; None where it has no FLOPs."""
        return self._times_limit(self.stages[stage], None if self.costs is None else self.costs[stage].flops)

    def _times_limit(self, seconds: Sequence[float], flops: int | None) -> Interval | None:
        if not flops:
            return None
        return paired_ratio([self.limit_flops / flops * value for value in seconds], self.limit)

    @property
    def limit_speed(self) -> float:
        """FLOP/s of the matrix product, median."""
        return self.limit_flops / Durations.of(self.limit).p50

    def limit_json(self) -> dict[str, Any]:
        """The matrix product and what it reached."""
        return {"flops": self.limit_flops, "flops_per_second": self.limit_speed, "times": _times(self.limit)}

    def to_json(self, reference: Measurement, batch: int, source: Measurement | None = None) -> dict[str, Any]:
        """reference: what ratios refer to; source: what it is another form of."""
        facts, ends, total = self.facts, self.end_to_end, self.stage_sum
        infer = Durations.of(self.infer)
        times: dict[str, Any] = {"infer": _times(self.infer)}
        if self.decode is not None and self.draw is not None and ends is not None:
            times |= {"decode": _times(self.decode), "draw": _times(self.draw), "end_to_end": _times(ends)}
        if total is not None:
            times["stage_sum"] = _times(total)
        limit = self.times_limit
        return {
            **{name: getattr(facts, name) for name in facts.__dataclass_fields__},
            "times": times,
            "images_per_second": batch / infer.p50,
            "stages": {name: self._stage_json(name, reference) for name in self.costs or {}},
            "flops": self.total_flops,
            "flop_limit": self.limit_name,
            "peak_bytes": self.peak_bytes,
            "memory_bytes": self.memory_bytes,
            "times_flop_limit": None if limit is None else limit.to_json(),
            "ratios": {
                "to": reference.facts.name,
                "infer": paired_ratio(self.infer, reference.infer).to_json(),
                "infer_to_source": None if source is None else paired_ratio(self.infer, source.infer).to_json(),
                "end_to_end": None if ends is None else paired_ratio(ends, reference.infer).to_json(),
                "parameters": share(facts.parameters, reference.facts.parameters),
                "flops": share(self.total_flops, reference.total_flops),
                "memory": share(self.memory_bytes, reference.memory_bytes),
            },
        }

    def _stage_json(self, stage: str, reference: Measurement) -> dict[str, Any]:
        assert self.costs is not None
        found: dict[str, Any] = asdict(self.costs[stage])
        if stage in self.stages:
            seconds, limit = self.stages[stage], self.stage_times_limit(stage)
            found["times"] = _times(seconds)
            found["ratio_of_times"] = paired_ratio(seconds, reference.infer).to_json()
            found["times_flop_limit"] = None if limit is None else limit.to_json()
        return found


@dataclass(frozen=True)
class Sweep:
    """Times of `infer` over one quantity.

    quantity  "pixels" or "images"
    labels    of the points, e.g. "512×1024"
    amounts   the quantity at each point
    seconds   candidate → per point the times of all rounds; only points that the candidate takes
    """

    quantity: str
    labels: Sequence[str]
    amounts: Sequence[float]
    seconds: Mapping[str, Mapping[int, Sequence[float]]]

    def exponent(self, name: str) -> Interval | None:
        """None: fewer than two points."""
        points = self.seconds[name]
        if len(points) < 2:
            return None
        return scaling_exponent([self.amounts[index] for index in points], list(points.values()))

    def to_json(self) -> dict[str, Any]:
        return {
            "quantity": self.quantity,
            "points": [{"label": label, self.quantity: n} for label, n in zip(self.labels, self.amounts, strict=True)],
            "candidates": {
                name: {
                    "exponent": None if (found := self.exponent(name)) is None else found.to_json(),
                    "times": {self.labels[index]: _times(seconds) for index, seconds in points.items()},
                }
                for name, points in self.seconds.items()
            },
        }


def share(value: int | None, reference: int | None) -> float | None:
    """value / reference where both are known."""
    return value / reference if value is not None and reference else None


def _times(seconds: Sequence[float]) -> dict[str, Any]:
    rounds = [round(1000 * value, 4) for value in seconds]
    return {**Durations.of(seconds).to_json(), "rounds_ms": rounds}
