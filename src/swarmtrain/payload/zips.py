"""Zip archives that are the same bytes for the same content: for the bundle and for the user's code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import NamedTuple

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can hold
_UNIX = 3
_REGULAR = 0o100000
_DIRECTORY = 0o040000


class ZipMember(NamedTuple):
    """One file of an archive."""

    name: str  # relative, with slashes; a directory's ends in one
    data: bytes
    executable: bool = False


def pack(members: Iterable[ZipMember]) -> bytes:
    """The archive of ``members``: in the order of their names, deflated, without times or owners."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for member in sorted(members):
            entry = zipfile.ZipInfo(member.name, _EPOCH)
            entry.create_system = _UNIX
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = _REGULAR | (0o755 if member.executable else 0o644)
            entry.external_attr = (_DIRECTORY | 0o755 if member.name.endswith("/") else mode) << 16
            archive.writestr(entry, member.data)
    return buffer.getvalue()


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
