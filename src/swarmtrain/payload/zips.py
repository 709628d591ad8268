"""Zip archives that are the same bytes for the same content: for the bundle and for the user's code."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can hold
_UNIX = 3


class ZipMember(NamedTuple):
    """One file of an archive."""

    name: str  # relative, with slashes
    data: bytes
    executable: bool = False


class ZipWriter:
    """Writes an archive into memory, deflated, without times or owners, in the order in which members are added.

    Args:
        deflate: False where it stays on the machine: then nobody waits for the compression.
    """

    def __init__(self, *, deflate: bool = True) -> None:
        self._buffer = io.BytesIO()
        self._method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
        self._archive = zipfile.ZipFile(self._buffer, "w", self._method)

    def add(self, name: str, pieces: Iterable[bytes], *, executable: bool = False, size: int = 0) -> int:
        """Add a file, piece by piece, or a directory, whose name ends in a slash; return how many bytes it has.

        Args:
            size: how many they will be, about.
        """
        mode = stat.S_IFDIR | 0o755 if name.endswith("/") else stat.S_IFREG | (0o755 if executable else 0o644)
        entry = self._entry(name, mode)
        entry.file_size = size
        with self._archive.open(entry, "w") as sink:
            return sum(map(sink.write, pieces))

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._archive.writestr(self._entry(name, stat.S_IFLNK | 0o777), os.fsencode(target))

    def finish(self) -> bytes:
        """The whole archive; nothing is added any more."""
        self._archive.close()
        return self._buffer.getvalue()

    def _entry(self, name: str, mode: int) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(name, _EPOCH)
        entry.create_system = _UNIX
        entry.compress_type = self._method
        entry.external_attr = mode << 16
        return entry


def pack(members: Iterable[ZipMember]) -> bytes:
    """The archive of ``members``, in the order of their names."""
    writer = ZipWriter()
    for member in sorted(members):
        writer.add(member.name, [member.data], executable=member.executable, size=len(member.data))
    return writer.finish()


def is_whole(path: Path) -> bool:
    """Whether a file is an archive whose files all match their checksums."""
    try:
        with zipfile.ZipFile(path) as opened:
            return opened.testzip() is None
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile):
        return False


def compressed_sizes(archive: bytes) -> dict[str, int]:
    """How many bytes of the archive each of its files takes."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {entry.filename: entry.compress_size for entry in opened.infolist()}


def unpack(archive: bytes) -> list[ZipMember]:
    """The files of an archive that `pack` made, less its directories; none for no archive."""
    if not archive:
        return []
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return [
            ZipMember(entry.filename, opened.read(entry), bool(entry.external_attr >> 16 & 0o111))
            for entry in opened.infolist()
            if not entry.is_dir()
        ]
