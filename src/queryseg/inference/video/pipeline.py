"""Stages that work at the same time on different frames, one thread each.

    source ─► queue ─► stage ─► queue ─► stage ─► … ─► queue ─► whoever iterates

A frame that walks through is in one place at any time, and frames never overtake each other. The longest stage sets the
pace: the others wait for it, because every queue is bounded. A stage may ask for the newest frame only; then the queue
before it drops what is older instead of making the source wait.

An error anywhere ends everything in order: what is ahead of it still reaches the end, what is behind it is forgotten,
and whoever iterates gets the error. `close` (also on Ctrl-C) forgets everything at once. No thread outlives it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from queryseg.inference.video.bounded_queue import Aborted, BoundedQueue, Ended

RECENT = 10_000
"""Percentiles are those of so many last values, so that a camera may run for months in constant memory."""


@dataclass
class Durations:
    """Seconds: count, mean and maximum of all, percentiles of the last `RECENT`."""

    count: int = 0
    total: float = 0.0
    largest: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)
        self.recent.append(seconds)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.recent, percent)) if self.recent else float("nan")


@dataclass
class StageTimes:
    """Where a stage's thread spends its time.

    working  per frame
    starved  seconds in all that it waited for a frame
    blocked  seconds in all that it waited for the next stage to take one
    """

    name: str
    working: Durations = field(default_factory=Durations)
    starved: float = 0.0
    blocked: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One step of the way.

    work         a frame's state → its next state; always called in one and the same thread
    newest_only  if the source is live, take only the newest frame
    """

    name: str
    work: Callable[[Any], Any]
    newest_only: bool = False


class Pipeline:
    """Iterates over what the last stage returns.

    source      frames; an attribute `waited`, if it has one, are seconds that it has waited for them so far (a camera)
    stop        wakes a source that waits, so that its thread can end
    queue_size  frames that may wait before each stage
    drop_late   stages that ask for the newest frame get it, and the older ones are dropped; otherwise every frame
                arrives, in order, and the source waits

    The threads start with the first frame asked for. Use it in `with`, or call `close`.
    """

    def __init__(
        self,
        source: Iterable[Any],
        stages: Sequence[Stage],
        queue_size: int = 2,
        drop_late: bool = False,
        source_name: str = "decode",
        stop: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.drop_late = drop_late
        self.times = [StageTimes(name) for name in (source_name, *(stage.name for stage in stages))]
        self._source, self._stop, self._clock = source, stop, clock
        lossy = [drop_late and stage.newest_only for stage in stages]
        sizes = [1 if drop_late else queue_size] * (len(stages) + 1)
        self._queues: list[BoundedQueue[Any]] = [
            BoundedQueue(size, newest) for size, newest in zip(sizes, [*lossy, False], strict=True)
        ]
        names = [times.name for times in self.times]
        works = [self._give, *(self._worker(place, stage.work) for place, stage in enumerate(stages))]
        self._threads = [
            threading.Thread(target=work, name=f"video {name}", daemon=True)
            for name, work in zip(names, works, strict=True)
        ]

    @property
    def dropped(self) -> int:
        """Frames that a newer one has replaced so far."""
        return sum(queue.dropped for queue in self._queues)

    @property
    def num_waiting(self) -> int:
        """Frames in queues now."""
        return sum(len(queue) for queue in self._queues)

    def __iter__(self) -> Iterator[Any]:
        """Raises: whatever the source or a stage raised, after the frames before it"""
        for thread in self._threads:
            thread.start()
        try:
            while True:
                try:
                    item = self._queues[-1].get()
                except Ended as end:
                    if end.error is not None:
                        raise end.error from None
                    return
                except Aborted:  # closed from another thread
                    return
                yield item
        finally:
            self.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: float = 15.0) -> None:
        """Stop every stage after the frame in its hands. timeout: seconds in all (a network source may have to wait for
        its own time-out). Raises: RuntimeError naming a stage that has not ended by then"""
        for queue in self._queues:
            queue.abort()
        self._stop()
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
                if thread.is_alive():
                    raise RuntimeError(f"Stage '{thread.name}' has not ended within {timeout:g} seconds.")

    def _give(self) -> None:
        """The source's thread."""
        outbox, times = self._queues[0], self.times[0]
        frames = iter(self._source)
        error: BaseException | None = None
        try:
            while True:
                start, waited = self._clock(), self._waited()
                frame = next(frames)
                end, waited = self._clock(), self._waited() - waited
                times.working.add(end - start - waited)
                times.starved += waited
                outbox.put(frame)
                times.blocked += self._clock() - end
        except (StopIteration, Aborted):
            pass
        except BaseException as caught:
            error = caught
        finally:
            close = getattr(frames, "close", None)  # a generator's: files are closed where they were read
            if close is not None:
                with contextlib.suppress(Exception):
                    close()
            outbox.close(error)

    def _waited(self) -> float:
        return float(getattr(self._source, "waited", 0.0))

    def _worker(self, place: int, work: Callable[[Any], Any]) -> Callable[[], None]:
        """What the thread of stage `place` runs."""
        inbox, outbox, times = self._queues[place], self._queues[place + 1], self.times[place + 1]

        def run() -> None:
            error: BaseException | None = None
            try:
                while True:
                    begin = self._clock()
                    item = inbox.get()
                    start = self._clock()
                    times.starved += start - begin
                    item = work(item)
                    end = self._clock()
                    times.working.add(end - start)
                    outbox.put(item)
                    times.blocked += self._clock() - end
            except Ended as ended:
                error = ended.error
            except Aborted:
                pass
            except BaseException as caught:
                error = caught
            finally:
                inbox.abort()
                outbox.close(error)

        return run
