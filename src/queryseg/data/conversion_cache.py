"""A folder of converted labels, so that polygons and panoptic files are converted once."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from queryseg.data.file_tree import DataFile

Arrays = dict[str, npt.NDArray[np.generic]]

_warned: set[str] = set()


def cache_folder() -> Path:
    """`QUERYSEG_CACHE`, or `queryseg` in `XDG_CACHE_HOME` (by default `~/.cache`)."""
    if folder := os.environ.get("QUERYSEG_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "queryseg"


class ConversionCache:
    """Results of a conversion by the file that they were made from.

    name     of the conversion
    version  of its code: results of other versions are not looked at
    folder   None: `cache_folder()`

    An entry belongs to a file's path, size and time of change; of an archived file, to the archive's and the member's.
    Entries appear whole or not at all, so that several processes may share the folder. It grows by about 35 kB per
    image of 1024×2048, is never needed, and may be deleted at any time (`queryseg data cache --clear`).
    Where it cannot be written, a warning says so once, and everything is converted every time.
    """

    def __init__(self, name: str, version: int, folder: Path | None = None) -> None:
        self.name = name
        self.version = version
        self.folder: Path | None = (folder or cache_folder()) / "conversions" / f"{name}-{version}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            self._give_up(error)

    def get(self, file: DataFile, make: Callable[[DataFile], Arrays]) -> Arrays:
        """What `make` gives for the file, from the cache if it is there."""
        if self.folder is None:
            return make(file)
        path = self.folder / f"{file_identity(file)}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, zipfile.BadZipFile):  # not there, or damaged: made again
            pass
        arrays = make(file)
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as part:
                np.savez_compressed(part, allow_pickle=False, **arrays)
            os.replace(part.name, path)
        except OSError as error:
            self._give_up(error)
        return arrays

    def _give_up(self, error: OSError) -> None:
        place, self.folder = str(self.folder), None
        if place not in _warned:
            _warned.add(place)
            warnings.warn(
                f"Converted labels cannot be kept in '{place}' ({error.strerror or error}), so every label is "
                "converted each time it is read; set QUERYSEG_CACHE to a folder that can be written.",
                stacklevel=3,
            )


def clear_cache() -> int:
    """Delete all converted labels. Returns the bytes freed."""
    freed = 0
    for path in (cache_folder() / "conversions").glob("*/*"):
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
    return freed


def file_identity(file: DataFile) -> str:
    """Other for another path, size or time of change; of an archived file, of the archive and the member."""
    place = file if isinstance(file, Path) else file.archive
    member = "" if isinstance(file, Path) else file.member
    about = place.stat()
    parts = (str(place.resolve()), about.st_size, about.st_mtime_ns, member)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]
