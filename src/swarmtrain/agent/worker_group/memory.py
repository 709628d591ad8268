"""A node's directory in memory: laid out for a run, saved to the disk when the run ends, then removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from swarmtrain.files.snapshots import listed
from swarmtrain.protocol.snapshots import Snapshot
from swarmtrain.wire.disk import private

SNAPSHOTS = "snapshots"


def lay_out(memory: Path, owner: str) -> None:
    """Make the directories, each this user's alone, and empty them of what another run has left. Raises OSError.

    Args:
        owner: what tells one run from another.
    """
    mark = memory / ".owner"
    if memory.exists() and not (mark.exists() and mark.read_text() == owner):
        shutil.rmtree(memory)
    for path in (memory.parent.parent, memory.parent, memory, memory / SNAPSHOTS):
        private.make(path)
    mark.write_text(owner)


def save_newest(memory: Path, snapshots: Path) -> str | None:
    """Copy the newest snapshot in memory to the disk, if the disk has none as new; return what was copied.

    A run that failed would otherwise lose its last seconds of work with the memory. See trainer/ for the files.

    Raises:
        OSError: the disk is full or gone.
    """
    ours, theirs = _newest(memory / SNAPSHOTS), _newest(snapshots)
    if ours is None or (theirs is not None and theirs.key >= ours.key):
        return None
    snapshots.mkdir(parents=True, exist_ok=True)
    for name in (ours.file, ours.manifest):  # the manifest last: with it, the snapshot is listed
        aside = snapshots / f".{name}.tmp"
        shutil.copyfile(memory / SNAPSHOTS / name, aside)
        _sync(aside)
        aside.replace(snapshots / name)
        _sync(snapshots)
    return Path(ours.manifest).stem


def remove(memory: Path) -> None:
    """Remove what is left, and the run's directory with it once no other node has anything there."""
    shutil.rmtree(memory, ignore_errors=True)
    for parent in (memory.parent, memory.parent.parent):
        try:
            parent.rmdir()
        except OSError:
            return


def _newest(directory: Path) -> Snapshot | None:
    return next((each for each in listed(directory, "", "") if not each.damage), None)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
