"""What a node's record of shared files says (`agent.sharing.record` writes it): which copies it keeps, and hashes."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.shared_files import SetVersion

SHARED = "shared"  # beside a working directory
RECORD = "record.json"  # in that
CONTENTS = "contents"  # and this, by their hashes


class Copy(NamedTuple):
    """A file of another node, ready to be put in its place.

    Args:
        at: where it lies, below the directory in which the working directory is.
    """

    size: int
    sha256: str
    mtime: float
    at: str


class Hashed(NamedTuple):
    """A file of the working directory as it was when its hash was taken."""

    size: int
    changed: int  # mtime in nanoseconds
    inode: int
    sha256: str

    def is_still(self, path: Path) -> bool:
        """Whether the file is as it was."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns, status.st_ino) == self[:3]


class Known(NamedTuple):
    """What a record says, by the paths of files."""

    kept: dict[str, Copy]
    hashes: dict[str, Hashed]


def read(work: Path) -> Known:
    """What the record beside a working directory says; nothing where there is none that can be read."""
    shared, known = work.parent / SHARED, Known({}, {})
    try:
        for directory, each in json.loads((shared / RECORD).read_bytes())["sets"].items():
            for name, file in each["in_place"].items():
                stamp = (file["size"], file["changed"], file["inode"], file["sha256"])
                known.hashes[posixpath.join(directory, name)] = Hashed(*stamp)
            if each["whole"] is not None and each["newest"] is not None:
                whole, newest = load(SetVersion, each["whole"]), load(SetVersion, each["newest"])
                known.kept.update(_kept(whole, newest, shared))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ChannelError):
        pass  # no agent has written one, or one of another version has
    return known


def _kept(whole: SetVersion, newest: SetVersion, shared: Path) -> Iterator[tuple[str, Copy]]:
    """The copies of one set, by path: of files that its newest version has, too; the others were deleted."""
    names = {file.name for file in newest.files}
    for file in whole.files:
        if file.name in names and (shared / CONTENTS / file.sha256).is_file():
            path = posixpath.join(whole.path, file.name)
            yield path, Copy(file.size, file.sha256, file.mtime, f"{SHARED}/{CONTENTS}/{file.sha256}")
