"""Ctrl-C (and a cluster's SIGTERM) between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class TrainingInterrupted(KeyboardInterrupt):
    """The user stopped a run that is saved; the message says how to resume it. Exit code 130."""


class StopRequest:
    """While it is entered, the first signal only sets `made`; the second one acts as usual.

    Outside of the main thread, where Python hands out no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.made = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def ignore_interrupts(worker: int) -> None:
    """For loader processes: a terminal sends Ctrl-C to them too, and the step in progress still needs their batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
