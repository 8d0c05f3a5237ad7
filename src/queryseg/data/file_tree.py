"""Where the files of a data set lie: in folders, in zip or tar archives, or in both side by side."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from queryseg.data.archive import Archive, ArchivedFile, is_archive, is_compressed_tar, open_archive
from queryseg.errors import InputError
from queryseg.spelling import first_of

DataFile = Path | ArchivedFile
"""A file that can be read: `name`, `suffix`, `read_bytes()`, and str() as messages call it."""

_SHOWN = 8
T = TypeVar("T")


class UnreadableArchiveError(InputError):
    """An archive in a folder may hold what is looked for, and cannot be read."""


class FileTree:
    """Files by their path below one root. Paths are written with '/'.

    root    a folder, or a .zip or .tar archive
    base    folder below the root that all paths start from
    skip_unreadable  take archives in folders that cannot be read for empty; only for telling what else is there

    An archive in a folder stands for what is in it, at the place where it lies: with `gtFine_trainvaltest.zip` in the
    root, `files("gtFine/val")` are those of the zip. Unpacked files win: archives are looked into only where no file of
    that folder is found outside. Nothing is unpacked; an archive's index is read once per process.

    Trees and files can be pickled, and shared by threads and processes.

    Raises: InputError if there is no such folder or archive, or it cannot be read; methods UnreadableArchiveError
    """

    def __init__(self, root: str | Path, base: str = "", skip_unreadable: bool = False) -> None:
        self.root = Path(root)
        self.base = _normal(base)
        self.skip_unreadable = skip_unreadable
        self.is_archive = self.root.is_file()
        if self.is_archive:
            if not is_archive(self.root) and not is_compressed_tar(self.root):
                raise InputError(
                    f"'{root}' is a file, but neither a .zip nor a .tar; give a folder or such an archive."
                )
            open_archive(self.root)
        elif not self.root.is_dir():
            raise InputError(f"There is no folder or archive '{root}'.")
        self._archives_in: dict[Path, list[Path]] = {}  # folder → its archives, as first looked at

    def below(self, folder: str) -> FileTree:
        """The tree that starts in a sub-folder, which need not exist."""
        return FileTree(self.root, posixpath.join(self.base, folder), self.skip_unreadable)

    def where(self, path: str = "") -> str:
        """What messages call a file or folder that may not exist."""
        path = posixpath.join(self.base, path)
        if self.is_archive:
            return f"{self.root} › {path}" if path else str(self.root)
        return str(self.root / path)

    def files(self, folder: str = "", ending: str | tuple[str, ...] = "") -> dict[str, DataFile]:
        """Path below `folder` → file, of all files in it and its sub-folders whose names end so, sorted by path; {} if
        there is none, or no such folder. Hidden files, and archives themselves, are left out.

        Raises: InputError if an archive cannot be read, or two archives hold different files of one path
        """
        path = posixpath.join(self.base, folder)
        if self.is_archive:
            return self._mounted([(self.root, _normal(path))], ending)
        place = self.root / path
        outside = {name: file for name, file in _walk(place) if name.endswith(ending)}
        if outside:
            return dict(sorted(outside.items()))
        return dict(sorted(self._mounted(self._archives(place), ending).items()))

    def file(self, path: str) -> DataFile:
        """One file. InputError if there is none."""
        found = self._located(path)
        if found is None:
            raise InputError(f"There is no file '{self.where(path)}'{self._hint()}.")
        return found

    def has_file(self, path: str) -> bool:
        """Whether the file exists, unpacked or in an archive."""
        return self._located(path) is not None

    def has_folder(self, folder: str) -> bool:
        """Whether the folder exists, unpacked or in an archive."""
        path = posixpath.join(self.base, folder)
        if not self.is_archive and (self.root / path).is_dir():
            return True
        places = [(self.root, _normal(path))] if self.is_archive else self._archives(self.root / path)
        return any(True for archive, inside in places for _ in self._opened(archive).below(inside))

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in `folder`, unpacked or in archives; sorted."""
        path = posixpath.join(self.base, folder)
        names: set[str] = set()
        places = [(self.root, _normal(path))] if self.is_archive else self._archives(self.root / path)
        for archive, inside in places:
            skipped = len(inside) + 1 if inside else 0
            for file in self._opened(archive).below(inside):
                head, slash, _ = file.member[skipped:].partition("/")
                names |= {head} if slash else set()
        if not self.is_archive and (place := self.root / path).is_dir():
            names |= {child.name for child in place.iterdir() if child.is_dir() and not child.name.startswith(".")}
        return sorted(names)

    def describe(self, folder: str = "") -> str:
        """What a folder holds, for messages: "gtFine/, leftImg8bit/, license.txt"."""
        names = [f"{name}/" for name in self.folders(folder)]
        place = self.root / posixpath.join(self.base, folder)
        if not self.is_archive and place.is_dir():
            names += sorted(child.name for child in place.iterdir() if child.is_file() and child.name[0] != ".")
        return first_of(names, _SHOWN) or "nothing"

    def _located(self, path: str) -> DataFile | None:
        path = posixpath.join(self.base, path)
        if not self.is_archive and (place := self.root / path).is_file():
            return place
        places = [(self.root, _normal(path))] if self.is_archive else self._archives(self.root / path)
        return next((f for archive, member in places if (f := self._opened(archive).file(member)) is not None), None)

    def _opened(self, archive: Path) -> Archive:
        try:
            return open_archive(archive)
        except InputError as error:
            if self.is_archive:
                raise
            if self.skip_unreadable:
                return Archive(archive, {})
            advice = "or move it away if it is no part of the data set"
            raise UnreadableArchiveError(f"{str(error).removesuffix('.')}, {advice}.") from error

    def _mounted(self, places: Iterable[tuple[Path, str]], ending: str | tuple[str, ...]) -> dict[str, DataFile]:
        found: dict[str, ArchivedFile] = {}
        for path, folder in places:
            skipped = len(folder) + 1 if folder else 0
            for file in self._opened(path).below(folder):
                if not file.member.endswith(ending):
                    continue
                other = found.setdefault(file.member[skipped:], file)
                if not _alike(other, file):
                    raise InputError(f"'{other}' and '{file}' are different files of one path; move one archive away.")
        return dict(found)

    def _archives(self, place: Path) -> list[tuple[Path, str]]:
        """Archives that may hold what is missing at a place: those in its folder and in the folders above it, up to the
        root, nearest first, with the path that is looked for in each."""
        found: list[tuple[Path, str]] = []
        relative = _normal(os.path.relpath(place, self.root))
        if relative.startswith(".."):
            return []
        parts = [part for part in relative.split("/") if part]
        for depth in range(len(parts), -1, -1):
            level = self.root.joinpath(*parts[:depth])
            if level not in self._archives_in:
                inside = level.iterdir() if level.is_dir() else ()
                self._archives_in[level] = sorted(
                    c for c in inside if is_archive(c) and c.is_file() and c.name[0] != "."
                )
            found += [(archive, "/".join(parts[depth:])) for archive in self._archives_in[level]]
        return found

    def _hint(self) -> str:
        if self.is_archive:
            return ""
        compressed = sorted(child.name for child in self.root.iterdir() if is_compressed_tar(child))
        if not compressed:
            return ""
        return f"; '{compressed[0]}' is compressed as a whole and cannot be read in place: unpack it, or make it a .tar"


def found_in(root: Path, find: Callable[[FileTree], T]) -> T:
    """What `find` finds in the tree of a root. Where an archive that cannot be read is in the way, and what is looked
    for is not elsewhere either, the sentence about the root comes first: the archive may have nothing to do with it.

    Raises: InputError
    """
    try:
        return find(FileTree(root))
    except UnreadableArchiveError as unreadable:
        try:
            find(FileTree(root, skip_unreadable=True))
        except InputError as error:
            raise InputError(f"{error} {unreadable}") from unreadable
        raise  # what was found may be a part of it


def _alike(one: ArchivedFile, other: ArchivedFile) -> bool:
    sums = {one.location.crc, other.location.crc} - {None}  # a tar's members have none
    return one.location.size == other.location.size and len(sums) < 2


def _walk(place: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(place, onerror=_refuse):
        folders[:] = [name for name in folders if name[0] != "." and name != "__MACOSX"]
        below = os.path.relpath(folder, place)
        for name in names:
            if name[0] != "." and not is_archive(name) and not is_compressed_tar(name):
                path = name if below == "." else f"{below}/{name}"
                yield path.replace(os.sep, "/"), Path(folder, name)


def _refuse(error: OSError) -> None:
    """os.walk would leave out what it may not read without a word."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise InputError(f"Folder '{error.filename}' cannot be read ({error.strerror}).") from error


def _normal(path: str) -> str:
    """Without './', doubled or trailing slashes; "" for the root itself."""
    normal = posixpath.normpath(path.replace(os.sep, "/"))
    return "" if normal == "." else normal
