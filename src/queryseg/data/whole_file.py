"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from queryseg.errors import InputError


@contextmanager
def whole_file(path: Path, lasting: bool = False) -> Iterator[Path]:
    """A hidden file beside `path` to write to, which takes its name in the end: at any moment the old file is there or
    the whole new one, and where writing fails the old one stays.

    lasting  not even a power cut leaves anything else; slow, because the disk is waited for

    Raises: OSError
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        if lasting:
            _wait_for_disk(part, os.O_RDWR)
        os.replace(part, path)
        if lasting:
            _wait_for_disk(path.parent, os.O_RDONLY)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` fills a `whole_file`; missing folders are made. Raises: InputError"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            write(part)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written ({error.strerror or error}); choose another folder or free space."
        ) from error


def _wait_for_disk(path: Path, access: int) -> None:
    descriptor = os.open(path, access)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
