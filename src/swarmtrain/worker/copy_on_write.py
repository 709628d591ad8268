"""A file that is used where it lies is copied before a worker writes to it, as an overlay file system would.

Python's own means are heard by their audit events (PEP 578), before they act: `open` in all its forms, `os.truncate`
and the like, `sqlite3.connect`. What a library opens in C is not heard, and goes into the user's file; a run says so
before it starts. A script that names the file by its own path, rather than by that in its working directory, means it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from swarmtrain.wire.disk import in_place

HEARD_IN = __file__  # its frames are none of the program's

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_TRUNC
_CHANGING = frozenset(["os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr", "sqlite3.connect"])
_MOST_LINKS = 40  # that the kernel follows


def protect(work: str) -> None:
    """Hear of everything that this program opens from now on, if a file in its working directory needs that."""
    targets = in_place.links(Path(work))
    if targets:
        sys.addaudithook(partial(_hear, Path(work).resolve(), targets))


def _hear(work: Path, targets: frozenset[str], event: str, args: tuple[Any, ...]) -> None:
    flags = 0
    if event == "open":
        flags = args[2] if isinstance(args[2], int) else 0
        if not flags & _WRITING:
            return
    elif event not in _CHANGING:
        return
    if isinstance(args[0], (str, bytes, os.PathLike)):
        link = _link(work, targets, os.fsdecode(args[0]))
        if link is not None:
            _copy(link, is_emptied=bool(flags & os.O_TRUNC))


def _link(work: Path, targets: frozenset[str], path: str) -> Path | None:
    """The link in the working directory by which a path leads to one of the files."""
    place = Path.cwd() / path
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # it leads around in a circle, or is no path
        for _ in range(_MOST_LINKS):
            place = place.parent.resolve() / place.name
            if not place.is_symlink():
                return None
            if str(place.readlink()) in targets and place.is_relative_to(work):
                return place
            place = place.parent / place.readlink()
    return None


def _copy(link: Path, *, is_emptied: bool) -> None:
    """Put a copy in the place of a link, once, whichever of a node's workers comes first. Raises OSError."""
    aside = link.with_name(f".{link.name}.swarmtrain-new")
    directory = os.open(link.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if not link.is_symlink():
            return
        if is_emptied:
            aside.write_bytes(b"")
        else:
            os.write(2, f"swarmtrain: {link.name} is copied, since it is about to be written to\n".encode())
            shutil.copyfile(link, aside)
        shutil.copymode(link, aside)
        aside.replace(link)
    finally:
        os.close(directory)
