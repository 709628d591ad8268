"""The few file operations that the safety of a snapshot rests on, in one place.

What a power cut leaves behind depends on the order of these alone, so tests put a recording disk in this one's stead.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class Disk:
    """A file system.

    Args:
        durable: whether what is synced is to survive a power cut. Syncing costs time and gains nothing in memory.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._durable = durable

    def create(self, path: Path) -> BinaryIO:
        """A new, empty file, opened for writing, and locked until it is closed: it is not left over."""
        file = open(path, "wb")  # noqa: SIM115
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def sync(self, file: BinaryIO) -> None:
        """Return when all that was written to ``file`` is on the disk."""
        file.flush()
        if self._durable:
            os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file within its directory, over one that may be there."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file that may be gone already."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """Make a directory and its parents, as far as they are missing."""
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for each in reversed(missing):
            self.sync_directory(each.parent)

    def sync_directory(self, path: Path) -> None:
        """Return when all names that were made, changed or removed in ``path`` are on the disk so."""
        if not self._durable:
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self, path: Path) -> None:
        """Remove a file if that can be done: on a disk that has just failed it may not."""
        with suppress(OSError):
            self.remove(path)


DISK = Disk()
MEMORY = Disk(durable=False)
