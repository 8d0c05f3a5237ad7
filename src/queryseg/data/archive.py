"""Zip and tar archives, read where they lie: an index of members, and the bytes of each.

An `ArchivedFile` knows where its bytes are and opens the archive for every reading, as one opens a file in a folder: it
can be shared by threads, inherited by forked processes and sent to others, and holds no handle.
"""

from __future__ import annotations

import posixpath
import tarfile
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from queryseg.errors import InputError

ARCHIVE_EXTENSIONS = (".zip", ".tar")
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

_LOCAL_HEADER = b"PK\3\4"
_LOCAL_HEADER_SIZE = 30
_ZIP_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


class Location(NamedTuple):
    """Where a member's bytes are.

    offset  of the content in a tar, of the local header in a zip
    size    bytes of the content
    stored  bytes that it takes in the archive
    method  of compression, by zip's number; None: a tar's member
    crc     CRC-32 of the content; None: a tar has none
    """

    offset: int
    size: int
    stored: int
    method: int | None = None
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file in an archive, with as much of a `Path` as readers need."""

    archive: Path
    member: str
    location: Location

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.member).suffix

    def __str__(self) -> str:
        return f"{self.archive} › {self.member}"

    def read_bytes(self) -> bytes:
        """The content. InputError if the archive is gone, cut off or damaged here."""
        where = self.location
        try:
            with open(self.archive, "rb") as file:
                file.seek(where.offset if where.method is None else _content_offset(file, where.offset, self))
                content = file.read(where.stored)
        except OSError as error:
            raise InputError(f"'{self}' cannot be read ({error.strerror or error}).") from error
        if where.method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompress(content, wbits=-zlib.MAX_WBITS, bufsize=where.size + 1)
            except zlib.error as error:
                raise _damaged(self) from error
        if len(content) != where.size or (where.crc is not None and zlib.crc32(content) != where.crc):
            raise _damaged(self)
        return content


class Archive:
    """The members of a zip or tar file by name; `open_archive` makes it."""

    def __init__(self, path: Path, locations: Mapping[str, Location]) -> None:
        self.path = path
        self.locations = locations
        self._names = sorted(locations)

    def file(self, member: str) -> ArchivedFile | None:
        """One member; None if there is none of this name."""
        location = self.locations.get(member)
        return None if location is None else ArchivedFile(self.path, member, location)

    def below(self, folder: str) -> Iterator[ArchivedFile]:
        """All members in a folder ("" for the archive itself) and its subfolders, sorted by name."""
        names = self._names
        # '0' is the character behind '/': what lies between is what begins with "folder/"
        span = (bisect_left(names, f"{folder}/"), bisect_left(names, f"{folder}0")) if folder else (0, len(names))
        for index in range(*span):
            yield ArchivedFile(self.path, names[index], self.locations[names[index]])


def is_archive(path: str | Path) -> bool:
    """By its name: a zip or tar."""
    return str(path).lower().endswith(ARCHIVE_EXTENSIONS)


def is_compressed_tar(path: str | Path) -> bool:
    """By its name: a tar that was compressed as a whole, so that a member cannot be reached but through all before."""
    return str(path).lower().endswith(COMPRESSED_TARS)


def open_archive(path: Path) -> Archive:
    """The index of an archive, read once per process while the file stays as it is.

    Hidden members and those of macOS (`__MACOSX`) are left out.

    Raises: InputError if it is missing, cut off, damaged, encrypted, or compressed so that nothing in it can be found
    without unpacking all of it
    """
    if is_compressed_tar(path):
        raise InputError(
            f"'{path}' is compressed as a whole, so single files cannot be read in place; unpack it, or make it a "
            "plain tar (gunzip and the like, which leaves a .tar)."
        )
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"Archive '{path}' cannot be read ({error.strerror or error}).") from error
    return _indexed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _indexed(path: Path, modified: int, size: int) -> Archive:
    try:
        index = _zip_index(path) if path.suffix.lower() == ".zip" else _tar_index(path, size)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise InputError(f"Archive '{path}' is cut off or damaged ({error}); download it again.") from error
    except OSError as error:
        raise InputError(f"Archive '{path}' cannot be read ({error.strerror or error}).") from error
    return Archive(path, index)


def _zip_index(path: Path) -> dict[str, Location]:
    index: dict[str, Location] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = _plain_name(member.filename)
            if member.is_dir() or name is None:
                continue
            if member.flag_bits & 1:
                raise InputError(f"Archive '{path}' is encrypted; unpack it with its password (unzip asks for it).")
            if member.compress_type not in _ZIP_METHODS:
                raise InputError(
                    f"'{path} › {name}' is compressed by method {member.compress_type}; read in place are members "
                    "that are stored or deflated, so unpack the archive."
                )
            index[name] = Location(
                member.header_offset, member.file_size, member.compress_size, member.compress_type, member.CRC
            )
    return index


def _tar_index(path: Path, size: int) -> dict[str, Location]:
    index: dict[str, Location] = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            name = _plain_name(member.name)
            if name is None:
                continue
            if member.islnk():  # a hard link: tar keeps the content of the first name only
                if (target := index.get(_plain_name(member.linkname) or "")) is not None:
                    index[name] = target
            elif member.isreg():
                if member.issparse():
                    raise InputError(f"'{path} › {name}' is kept as a sparse file, which cannot be read in place.")
                index[name] = Location(member.offset_data, member.size, member.size)
        end = archive.offset
    # tarfile stops without a word where the file does; a whole tar ends with a block of zeros
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it ends after {size:,} bytes without the mark of a tar's end")
    return index


def _plain_name(member: str) -> str | None:
    """ "./a//b.png" → "a/b.png"; None for hidden members."""
    name = posixpath.normpath(member.replace("\\", "/")).lstrip("/")
    return None if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")) else name


def _content_offset(file: BinaryIO, header: int, member: ArchivedFile) -> int:
    """A zip's local header repeats the name, and may have further fields than the index at the end of the file."""
    file.seek(header)
    fields = file.read(_LOCAL_HEADER_SIZE)
    if len(fields) < _LOCAL_HEADER_SIZE or not fields.startswith(_LOCAL_HEADER):
        raise _damaged(member)
    lengths = int.from_bytes(fields[26:28], "little") + int.from_bytes(fields[28:30], "little")
    return header + _LOCAL_HEADER_SIZE + lengths


def _damaged(member: ArchivedFile) -> InputError:
    return InputError(f"'{member}' is damaged, or the archive is cut off; download it again.")
