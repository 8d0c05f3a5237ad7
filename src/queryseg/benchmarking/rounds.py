"""Many tasks that take turns in one process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import torch

from queryseg.evaluation.evaluator import Progress

Task = Callable[[], Mapping[str, float]]
"""Does its work once and tells the seconds of its parts."""

SETTLED = 0.05
"""Warm-up ends when the last rounds are within this share of those before."""
_LONGEST = 4
"""Times as many rounds of warm-up as asked for, at most."""


@dataclass(frozen=True)
class Timed:
    """seconds: per task, name of a part → one time per round; warmup: rounds that were not counted; settled: whether
    times had stopped falling by then."""

    seconds: Sequence[Mapping[str, list[float]]]
    warmup: int
    settled: bool


def take_turns(tasks: Sequence[Task], num_rounds: int, warmup: int, progress: Progress | None = None) -> Timed:
    """Every task once per round, each round in an order of its own (drawn, always the same ones), so that no task
    always follows the same other one.

    warmup  rounds before the first that counts; more of them, up to four times as many, until every task's times have
            settled. 0: none
    progress  called with (runs done, runs to do) after every task; the second grows while times have not settled
    """
    totals: list[list[float]] = [[] for _ in tasks]
    seconds: list[dict[str, list[float]]] = [{} for _ in tasks]
    settled = warmup == 0
    num_warm = 0

    def one_round(number: int, begun: int, expected: int) -> Iterator[tuple[int, Mapping[str, float]]]:
        for offset, index in enumerate(Random(number).sample(range(len(tasks)), len(tasks))):
            yield index, tasks[index]()
            if progress is not None:
                progress(begun * len(tasks) + offset + 1, expected * len(tasks))
        gc.collect()

    with _without_collector():
        while num_warm < _LONGEST * warmup and not settled:
            for index, parts in one_round(num_warm, num_warm, max(warmup, num_warm + 1) + num_rounds):
                totals[index].append(sum(parts.values()))
            num_warm += 1
            settled = num_warm >= warmup and all(has_settled(total, max(2, warmup // 2)) for total in totals)
        for number in range(num_rounds):
            for index, parts in one_round(number, num_warm + number, num_warm + num_rounds):
                for name, value in parts.items():
                    seconds[index].setdefault(name, []).append(value)
    return Timed(seconds, num_warm, settled)


def has_settled(totals: Sequence[float], window: int) -> bool:
    """The fastest of the last `window` times is not faster than the fastest before by more than 5 %."""
    before, last = totals[:-window], totals[-window:]
    return bool(before) and min(last) >= (1 - SETTLED) * min(before)


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, until the device is done."""
    start = time.perf_counter()
    run()
    wait_for(device)
    return time.perf_counter() - start


@contextmanager
def _without_collector() -> Iterator[None]:
    """Python's garbage collector strikes at random; it runs between rounds instead, and only over what these made."""
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
