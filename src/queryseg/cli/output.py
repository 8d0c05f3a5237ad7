"""What several verbs print and write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from queryseg.errors import InputError

console = Console(highlight=False)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar with ETA on standard error, and the callback (done, total or None) that moves it. Where standard error is
    no terminal there is none: it would leave an empty line before the one sentence of an error."""
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def make_folder(path: Path) -> Path:
    """An output folder that can be written. Raises: InputError"""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"The folder {path} cannot be written ({error.strerror}); choose another with --out."
        ) from None
    return path


def check_json(path: Path | None) -> None:
    """Before long work: could the file be written? Raises: InputError"""
    if path is None:
        return
    folder = next(parent for parent in path.resolve().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"{path} cannot be written; choose another file.")


def write_json(path: Path | None, content: Any) -> None:
    """For machines; nothing if no file was asked for. Raises: InputError"""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another file.") from None
