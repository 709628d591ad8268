"""A file of JSON objects, one a line, that only grows. Journal, output and metrics are kept in such files.

A power cut may tear the last line; it is cut off when the file is opened again. A line further up that cannot be read,
or does not match its checksum (the last field, ``crc``), is set aside in a file of its own, with a word, and what
follows it counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmtrain.wire.plural import plural

Record = dict[str, Any]

_SUM, _SUM_BYTES = b',"crc":"', 19  # what a line's checksum begins with, and how long it is to the line's end
_UNWRITTEN = 1 << 20  # bytes, kept for a disk that takes none, with which nothing more is kept


class Records:
    """An open file of records.

    Args:
        take: called with every record that is there already, in order, and whether its line has a checksum. It may
            raise what bad data raises.

    Attributes:
        damage: what was set aside at the opening, in a sentence; empty where nothing was.
    """

    def __init__(self, path: Path, take: Callable[[Record, bool], None]) -> None:
        self.path, self.damage = path, ""
        damaged, end, torn = _taken(path, take) if path.exists() else ({}, 0, b"")
        if damaged:
            self.damage = _set_aside(path, damaged)
            print(self.damage, file=sys.stderr, flush=True)
        self._unwritten = b""
        self._file = path.open("ab")
        if torn and self._behind(end, len(torn) + 1) == torn:
            self._file.truncate(end)

    def _behind(self, offset: int, most: int) -> bytes:
        """What stands there now, as another process may have opened the file, too, and added to it."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(most)

    def append(self, *records: Record, sync: bool = False) -> None:
        """Add records in one go; with ``sync`` they are on the disk when this returns.

        A disk that is full or broken is said on stderr, and training goes on. What it did not take is tried again
        with the next record, in order, up to a megabyte: losing words is better than losing work. Who can have more
        later instead asks `full` first.
        """
        data = self._unwritten + b"".join(map(as_line, records))
        descriptor = self._file.fileno()
        end = os.fstat(descriptor).st_size
        left = data
        try:
            while left:
                left = left[os.write(descriptor, left) :]
            self._unwritten = b""
            if sync:
                os.fsync(descriptor)
        except OSError as error:
            if not left or not self._unwritten:  # once, until there is room
                print(f"{self.path.name} could not be written: {error}", file=sys.stderr, flush=True)
            if left:
                self._unwritten = data if len(self._unwritten) < _UNWRITTEN else self._unwritten
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)  # half a record would be taken for the end of the file

    def full(self) -> bool:
        """Whether anything that was added is not in the file, though that was tried again just now."""
        if self._unwritten:
            self.append()
        return bool(self._unwritten)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RecordsReader:
    """Reads such a file piece by piece while it grows.

    Args:
        after: how many records to leave out. It counts on with each that is read.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        self.after = after
        self._path = path
        self._skip, self._offset = after, 0

    def read(self, most: int) -> list[Record]:
        """The next records, at most so many; none when there are no new ones."""
        found: list[Record] = []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while len(found) < most:
                line = file.readline()
                if not line.endswith(b"\n"):
                    break  # the end, or one that is just being written
                self._offset += len(line)
                record = parse(line)
                if record is None:
                    continue  # damaged, or the place of what was
                if self._skip > 0:
                    self._skip -= 1
                else:
                    found.append(record)
        self.after += len(found)
        return found


def parse(line: bytes) -> Record | None:
    """A whole line as a record; None when it is torn, no JSON object, or not what was written."""
    if not line.endswith(b"\n"):
        return None
    body, end = line[:-_SUM_BYTES], line[-_SUM_BYTES:]
    try:
        if end.startswith(_SUM):  # else it is of those who write none
            line = body + b"}"
            if zlib.crc32(body) != int(end[len(_SUM) : -3], 16):
                return None
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def is_summed(line: bytes) -> bool:
    """Whether a whole line has a checksum: a record that `parse` makes of it is then what was written."""
    return line.endswith(b'"}\n') and line[-_SUM_BYTES:].startswith(_SUM)


def as_line(record: Record) -> bytes:
    """A record as a whole line, with its checksum; `parse` reads it."""
    body = json.dumps(record, separators=(",", ":")).encode("ascii")[:-1]
    return b'%b%b%08x"}\n' % (body, _SUM, zlib.crc32(body))


def _taken(path: Path, take: Callable[[Record, bool], None]) -> tuple[dict[int, bytes], int, bytes]:
    """Take every record of a file; return the lines that are none, by where they begin, and a torn one, with that."""
    damaged, end = dict[int, bytes](), 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return damaged, end, line
            try:
                if line.strip():  # the place of one that was set aside before is blank
                    take(parse(line) or {}, is_summed(line))
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                damaged[end] = line
            end += len(line)
    return damaged, end, b""


def _set_aside(path: Path, damaged: dict[int, bytes]) -> str:
    """Keep these lines in a file beside; blanks stay in their place. Returns what to say.

    Another process may have mended the file while it was read: what no longer is as it was read stays.
    """
    lines = plural(len(damaged), "a damaged line", f"{len(damaged)} damaged lines")
    beside = path.with_suffix(".damaged")
    try:
        with path.open("r+b") as file, beside.open("ab") as kept:
            kept.write(b"".join(damaged.values()))
            kept.flush()
            os.fsync(kept.fileno())
            for offset, line in damaged.items():
                file.seek(offset)
                if file.read(len(line)) == line:
                    file.seek(offset)
                    file.write(b" " * (len(line) - 1) + b"\n")
    except OSError as error:
        return f"{path.name} has {lines}, passed over ({error})"
    return f"{path.name} had {lines}, set aside in {beside.name}"
