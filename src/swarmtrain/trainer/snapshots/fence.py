"""The fence: a number that each start of a training claims, above all that were ever used in its directories.

Snapshots are ordered by it first, so that what a start writes is newer than everything it found, whoever wrote that: an
older generation of the same run, a run whose number was removed and used again, a plain ``python train.py``. A claim is
a file in the directory of snapshots, named by the number, that only one writer can make. It is kept when all snapshots
under that number have gone.

Called by ``agreement``, on the rank that leads its node.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from swarmtrain.trainer.snapshots.disk import Disk
from swarmtrain.wire.disk.snapshots import key_of

_CLAIM = re.compile(r"fence-(\d+)")
_WRITTEN_WITHIN = 2.0  # seconds from the making of a claim to its owner's name in it


def highest(directory: Path) -> int:
    """The highest fence that a snapshot (whole, damaged or cut off) or a claim there has; 0 without any.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        return max((_fence_of(path.name) for path in directory.iterdir()), default=0)
    except FileNotFoundError:
        return 0


def claim(directory: Path, fence: int, owner: str, disk: Disk) -> bool:
    """Claim ``fence`` for ``owner``; return whether it is theirs.

    Several nodes may share a directory: what has been claimed in the name of the same owner is theirs.

    Raises:
        OSError: the directory cannot be written.
    """
    disk.make_directory(directory)
    path = directory / f"fence-{fence:07d}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return _owner(path) == owner
    with open(descriptor, "wb") as file:
        file.write(owner.encode())
        disk.sync(file)
    others = [each for each in directory.iterdir() if each != path]
    if any(_fence_of(each.name) >= fence for each in others):  # somebody was quicker
        disk.discard(path)
        return False
    for each in others:
        if _CLAIM.fullmatch(each.name):
            disk.discard(each)
    disk.sync_directory(directory)
    return True


def _fence_of(name: str) -> int:
    if match := _CLAIM.fullmatch(name):
        return int(match[1])
    key = key_of(name)
    return key[0] if key else 0


def _owner(path: Path) -> str:
    limit = time.monotonic() + _WRITTEN_WITHIN
    while True:
        try:
            owner = path.read_text()
        except FileNotFoundError:
            return ""  # taken back, or below one that was claimed since
        if owner or time.monotonic() > limit:
            return owner
        time.sleep(0.01)
