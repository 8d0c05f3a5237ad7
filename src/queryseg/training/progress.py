"""What a run shows while it learns: a bar in a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType, TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows steps, loss and its parts, pace, and the last validation. steps: of the whole run; step: its beginning."""

    def __init__(self, console: Console, steps: int, step: int) -> None:
        self.console, self.steps = console, steps
        self._bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=steps, completed=step, status="")
        self._last_line = float("-inf")
        self._scores = ""

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def advance(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """values: a row of metrics.csv."""
        parts = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if _is_term(name))
        pace, share = values["images_per_second"], values["loader_share"]
        status = f"loss {values['loss']:.3f} ({parts}) · {pace:.1f} images/s · loader {share:.0%}{self._scores}"
        self._bar.update(self._task, status=status)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            each = 1000 / max(pace, 1e-9)
            left = timedelta(seconds=round((self.steps - step) * values["seconds_per_step"]))
            self.say(f"step {step}/{self.steps} · {status} · {each:.0f} ms per image · about {left} left")

    def validated(
        self, step: int, scores: Mapping[str, float], qualities: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """scores: data set → mIoU in 0…1; qualities: data set → panoptic quality, of runs on objects."""
        kinds = {"mIoU": scores, "PQ": qualities}
        listed = [(kind, [f"{n} {100 * v:.1f}" for n, v in values.items()]) for kind, values in kinds.items() if values]
        self._scores = "".join(f" · {kind} {first}" for kind, (first, *_) in listed)
        self.say(f"step {step}/{self.steps}" + "".join(f" · {kind} {', '.join(each)}" for kind, each in listed))


def _is_term(column: str) -> bool:
    return "/" in column and not column.startswith(("miou/", "pq/"))
