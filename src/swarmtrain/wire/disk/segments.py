"""Shared memory that a run's processes have made in /dev/shm: what is written down of it, and its removal.

POSIX shared memory has a name of its own and outlives whoever made it: Python's ``SharedMemory``, tensors that torch
shares by file, semaphores. An agent writes down, in its node's directory in memory, what it has seen its workers make
(agent/worker_group/segments.py). Whoever clears that directory removes it: the agent, or the launcher where the agent
was killed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

SHARED = Path("/dev/shm")
_RECORD = "segments"


def note(memory: Path, name: str, inode: int) -> None:
    """Write one down. Raises OSError."""
    with (memory / _RECORD).open("a", errors="surrogateescape") as record:
        record.write(f"{inode} {name}\n")


def noted(memory: Path) -> dict[str, int]:
    """What is written down, by name, with its inode."""
    try:
        lines = (memory / _RECORD).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    entries = (line.partition(" ") for line in lines)
    return {name: int(inode) for inode, _, name in entries if inode.isdigit() and name and "/" not in name}


def remove(segments: Mapping[str, int]) -> None:
    """Remove those that are still what they were, this user's, and in nobody's hands."""
    left = {name: inode for name, inode in segments.items() if identity(name) == inode}
    held = holders(left.values()) if left else {}
    for name, inode in left.items():
        if not held[inode]:
            (SHARED / name).unlink(missing_ok=True)


def identity(name: str) -> int:
    """The inode of a file of this user; 0 of what is none, is gone, or is somebody else's."""
    try:
        status = (SHARED / name).lstat()
    except OSError:
        return 0
    return status.st_ino if status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode) else 0


def holders(inodes: Iterable[int], among: Iterable[int] | None = None) -> dict[int, set[int]]:
    """The processes that have these files open or mapped, as far as this user may see that.

    By their inodes, since a semaphore gets its name only after it was mapped.

    Args:
        among: the processes to ask; all of the machine by default.
    """
    found: dict[int, set[int]] = {inode: set() for inode in inodes}
    if not found:
        return found
    everybody = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - names are enough
    for pid in everybody if among is None else among:
        for inode in _in_hands(f"/proc/{pid}") & found.keys():
            found[inode].add(pid)
    return found


def _in_hands(process: str) -> set[int]:
    """The inodes of the files below /dev/shm that a process has mapped or open."""
    below = f"{SHARED}/"
    inodes = set[int]()
    try:
        with open(f"{process}/maps", "rb") as maps:
            inodes |= {int(line.split(None, 5)[4]) for line in maps if below.encode() in line}
        for number in os.listdir(f"{process}/fd"):  # noqa: PTH208
            descriptor = f"{process}/fd/{number}"
            try:
                if os.readlink(descriptor).startswith(below):  # noqa: PTH115
                    inodes.add(os.stat(descriptor).st_ino)  # noqa: PTH116
            except FileNotFoundError:
                continue  # it was closed meanwhile
    except OSError:
        pass  # it has ended, or is somebody else's
    return inodes
