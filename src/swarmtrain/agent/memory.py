"""A node's directory in memory: laid out for a run, saved to the disk when the run ends, then removed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

SNAPSHOTS = "snapshots"


def lay_out(memory: Path) -> None:
    """Make the directories. Raises OSError."""
    (memory / SNAPSHOTS).mkdir(parents=True, exist_ok=True, mode=0o700)


def save_newest(memory: Path, snapshots: Path) -> str | None:
    """Copy the newest snapshot in memory to the disk, if the disk has none as new; return what was copied.

    A run that failed would otherwise lose its last seconds of work with the memory. See trainer/ for the files.

    Raises:
        OSError: the disk is full or gone.
    """
    ours, theirs = _newest(memory / SNAPSHOTS), _newest(snapshots)
    if ours is None or (theirs is not None and theirs[0] >= ours[0]):
        return None
    _, manifest, data = ours
    snapshots.mkdir(parents=True, exist_ok=True)
    for path in (data, manifest):  # the manifest last: with it, the snapshot is listed
        aside = snapshots / f".{path.name}.tmp"
        shutil.copyfile(path, aside)
        _sync(aside)
        aside.replace(snapshots / path.name)
        _sync(snapshots)
    return manifest.stem


def remove(memory: Path) -> None:
    """Remove what is left, and the run's directory with it once no other node has anything there."""
    shutil.rmtree(memory, ignore_errors=True)
    for parent in (memory.parent, memory.parent.parent):
        try:
            parent.rmdir()
        except OSError:
            return


def _newest(directory: Path) -> tuple[tuple[int, int], Path, Path] | None:
    """The newest snapshot by generation and step: its order, manifest and data."""
    found = []
    for manifest in directory.glob("g*-s*.json"):
        try:
            fields = json.loads(manifest.read_text())
            data = directory / fields["file"]
            if data.stat().st_size == fields["bytes"]:
                found.append(((int(fields["generation"]), int(fields["step"])), manifest, data))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being written or pruned at this moment, or damaged
    return max(found, default=None)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
