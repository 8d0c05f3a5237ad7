"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from queryseg.errors import InputError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` fills a hidden file beside `path`, which then takes its name; missing folders are made.

    Raises: InputError
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written ({error.strerror or error}); choose another folder or free space."
        ) from error
