"""Prepares candidates and lets them take turns.

Shape legend: B images, H×W pixels of a frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from queryseg.benchmarking.arithmetic import MatrixProduct
from queryseg.benchmarking.benchmark_result import BenchmarkResult, Settings
from queryseg.benchmarking.candidate import Candidate, Frames, Work
from queryseg.benchmarking.live_memory import peak_bytes
from queryseg.benchmarking.machine import hardware, load_average, versions
from queryseg.benchmarking.measurement import Facts, Measurement, Sweep
from queryseg.benchmarking.rounds import Task, take_turns, timed
from queryseg.benchmarking.stage_cost import StageCost, stage_costs
from queryseg.benchmarking.workload import Workload, shown, write_picture
from queryseg.data.drawing import overlay
from queryseg.data.image_file import read_image
from queryseg.errors import InputError, reason_of
from queryseg.evaluation.evaluator import Progress
from queryseg.inference.engine import Size
from queryseg.inference.precision import HALF


def benchmark(
    candidates: Sequence[Candidate],
    workload: Workload,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Measure all candidates in turns. progress: called with (runs done, runs to do).

    Raises: InputError if there is no candidate, two have one name, or one cannot do the work
    """
    settings = settings or Settings()
    names = [one.name for one in candidates]
    if not names:
        raise InputError("There is nothing to benchmark; give a candidate.")
    if len(set(names)) < len(names):
        raise InputError(f"Two candidates are named '{max(names, key=names.count)}'; give every one its own name.")
    before = load_average()
    with tempfile.TemporaryDirectory(prefix="queryseg-benchmark-") as folder:
        bench = Bench(candidates, workload, settings, Path(folder))
        turns = take_turns(list(bench.tasks.values()), settings.rounds, settings.warmup, progress)
    seconds = dict(zip(bench.tasks, turns.seconds, strict=True))
    measurements = [bench.measurement(one, seconds) for one in candidates]
    after = load_average()
    return BenchmarkResult(
        workload,
        settings,
        measurements,
        bench.sweeps(seconds),
        "bare" if "bare" in names else names[0],
        hardware(candidates[0].device),
        versions(),
        (before, after),
        turns.warmup,
        turns.settled,
        bench.notes,
    )


Key = tuple[str, str]
"""(candidate or "", what it does: "main", "stages", a matrix product or the label of a sweep's point)"""


class Bench:
    """Candidates prepared for every workload, and the tasks that are to be timed."""

    def __init__(self, candidates: Sequence[Candidate], workload: Workload, settings: Settings, folder: Path) -> None:
        self.workload, self.settings, self.folder = workload, settings, folder
        self.notes: list[str] = []
        self.tasks: dict[Key, Task] = {}
        self.products: dict[str, MatrixProduct] = {}
        self.limits: dict[str, str] = {}
        self.counts: dict[str, tuple[Mapping[str, StageCost] | None, int | None]] = {}
        sizes, batches = (sorted({own, *more}) if more else [] for own, more in (
            (workload.size, settings.sizes), (workload.batch, settings.batches)
        ))  # fmt: skip
        self.points: dict[str, dict[str, Workload]] = {
            "pixels": {shown(size): replace(workload, size=size) for size in sorted(sizes, key=_area)},
            "images": {f"batch {number}": replace(workload, batch=number) for number in batches},
        }
        for candidate in candidates:
            self._prepare(candidate)

    def _prepare(self, candidate: Candidate) -> None:
        """First run of everything: what fails does so here, before anything is timed."""
        name = candidate.name
        work = candidate.work(self.workload)
        files = self._files(self.workload)
        frames = [read_image(file) for file in files]
        with candidate.context():
            labels = _try(candidate, work, frames, self.workload)
            self.counts[name] = self._count(candidate, work, frames)
        product = MatrixProduct(candidate.device, matrix_dtype(candidate), self.settings.matrix)
        if str(product) not in self.products:
            product()
            self.products[str(product)] = product
            self.tasks["", str(product)] = product
        self.limits[name] = str(product)
        self.tasks[name, "main"] = partial(_main, candidate, work, files, frames)
        if self.settings.stages and len(work.stages) > 1 and not candidate.compiled:
            self.tasks[name, "stages"] = partial(_stages, candidate, work, frames)
        if candidate.classes is not None:
            size = (self.workload.batch, *self.workload.frame_size)
            assert labels.shape == size, f"{name} gives labels {labels.shape} instead of {size}"
        for label, point in ((label, point) for points in self.points.values() for label, point in points.items()):
            if point != self.workload:
                self._prepare_point(candidate, label, point)

    def _prepare_point(self, candidate: Candidate, label: str, point: Workload) -> None:
        try:
            work = candidate.work(point)
        except InputError as error:
            self.notes.append(f"Left out of the sweep: {error}")
            return
        frames = [read_image(file) for file in self._files(point)]
        with candidate.context():
            _try(candidate, work, frames, point)
        self.tasks[candidate.name, label] = partial(_infer, candidate, work, frames)

    def _files(self, workload: Workload) -> list[Path]:
        path = self.folder / f"{shown(workload.frame_size)}.jpg"
        if not path.exists():
            write_picture(path, workload.frame_size)
        return [path] * workload.batch

    def _count(
        self, candidate: Candidate, work: Work, frames: Frames
    ) -> tuple[Mapping[str, StageCost] | None, int | None]:
        """Costs of the stages and peak memory of `infer`; of compiled candidates on a CPU that of the stages, because
        what a compiled graph allocates cannot be seen there."""
        if not candidate.visible:
            return None, None
        costs = stage_costs(work, frames, candidate.device)
        run = work.run_stages if candidate.compiled and candidate.device.type == "cpu" else work.infer
        return costs, peak_bytes(lambda: run(frames), candidate.device)

    def measurement(self, candidate: Candidate, seconds: Mapping[Key, Mapping[str, list[float]]]) -> Measurement:
        name = candidate.name
        limit = self.limits[name]
        main = seconds[name, "main"]
        costs, peak = self.counts[name]
        facts = Facts(
            name,
            candidate.description,
            candidate.includes,
            candidate.precision,
            str(candidate.device),
            candidate.compiled,
            candidate.parameters,
            candidate.weight_bytes,
        )
        return Measurement(
            facts,
            main["infer"],
            limit,
            seconds["", limit]["matrix"],
            self.products[limit].flops,
            main.get("decode"),
            main.get("draw"),
            seconds.get((name, "stages"), {}),
            costs,
            peak,
        )

    def sweeps(self, seconds: Mapping[Key, Mapping[str, list[float]]]) -> list[Sweep]:
        names = [name for name, what in self.tasks if what == "main"]
        found = []
        for quantity, points in self.points.items():
            if not points:
                continue
            times: dict[str, dict[int, Sequence[float]]] = {name: {} for name in names}
            for index, (label, point) in enumerate(points.items()):
                for name in names:
                    key = (name, "main" if point == self.workload else label)
                    if key in seconds:
                        times[name][index] = seconds[key]["infer"]
            amounts = [float(p.num_pixels if quantity == "pixels" else p.batch) for p in points.values()]
            found.append(Sweep(quantity, list(points), amounts, times))
        return found


# ───────────────────────────── tasks ─────────────────────────────


def _main(candidate: Candidate, work: Work, files: Sequence[Path], frames: Frames) -> dict[str, float]:
    """From file to picture; of a candidate without labels `infer` alone."""
    with candidate.context():
        if candidate.classes is None:
            return _infer(candidate, work, frames)
        read: list[torch.Tensor] = []
        result: list[Any] = []
        decode = timed(lambda: read.extend(read_image(file) for file in files), torch.device("cpu"))
        infer = timed(lambda: result.append(work.infer(read)), candidate.device)
        draw = timed(partial(_draw, candidate, read, result), torch.device("cpu"))
        return {"decode": decode, "infer": infer, "draw": draw}


def _draw(candidate: Candidate, frames: Frames, result: Sequence[Any]) -> None:
    assert candidate.classes is not None
    for frame, labels in zip(frames, result[0], strict=True):
        overlay(frame, labels, candidate.classes)


def _infer(candidate: Candidate, work: Work, frames: Frames) -> dict[str, float]:
    with candidate.context():
        return {"infer": timed(lambda: work.infer(frames), candidate.device)}


def _stages(candidate: Candidate, work: Work, frames: Frames) -> dict[str, float]:
    seconds: dict[str, float] = {}
    state: list[Any] = [frames]
    with candidate.context():
        for stage in work.stages:

            def run(run_stage: Callable[[Any], Any] = stage.run) -> None:
                state[0] = run_stage(state[0])

            seconds[stage.name] = timed(run, candidate.device)
    return seconds


def _try(candidate: Candidate, work: Work, frames: Frames, workload: Workload) -> Any:
    try:
        return work.infer(frames)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:  # memory, compilers, odd sizes
        how = " compiled" if candidate.compiled else ""
        raise InputError(
            f"{candidate.name} fails{how} at {workload} ({type(error).__name__}: {reason_of(error)}); try another "
            "--size, --batch or --precision, or leave it out."
        ) from error


def matrix_dtype(candidate: Candidate) -> torch.dtype:
    """In which a candidate's matrix products are computed."""
    return HALF.get(candidate.precision, torch.float32)


def _area(size: Size) -> int:
    return size[0] * size[1]
