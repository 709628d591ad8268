"""Directories and files of one's own where every user of a machine may write: /dev/shm, /tmp, a scratch disk.

Whoever can guess a name there can make it first, or put a link in its place. What swarmtrain keeps is code, orders and
pickled state, so it is used only where nobody else could have put it. Used on both sides: by the launchers for what
they keep, by agents for what lies in memory, by the trainer before it trusts a snapshot there.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def trouble(path: Path) -> str:
    """Why a directory is not this user's alone to write into, as the end of a sentence; empty where it is.

    Raises:
        OSError: it cannot be looked at, or is not there.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory" if not stat.S_ISLNK(status.st_mode) else "is a link"
    if status.st_uid != os.geteuid():
        return f"belongs to {_name(status.st_uid)}"
    if status.st_mode & _OTHERS_WRITE:
        return f"can be written by others (its mode is {stat.S_IMODE(status.st_mode):04o})"
    return ""


def make(path: Path) -> None:
    """Make a directory of mode 0700, and its parents as others may read them; one that is there must be one's own.

    Raises:
        PermissionError: it is not, and says why. OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if why := trouble(path):
            raise PermissionError(f"{path} {why}") from None


def is_safe(path: Path) -> bool:
    """Whether nobody else can have put anything into a directory, nor another one in its place.

    It is this user's alone to write into, and so is each that leads to it, up to one that only root and the owners of
    what is in it may change.
    """
    try:
        if trouble(path):
            return False
        for parent in path.absolute().parents:
            status = parent.lstat()
            if status.st_uid not in (os.geteuid(), 0) or not _keeps_names(status.st_mode):
                return False
    except OSError:
        return False
    return True


def above(path: Path) -> str:
    """The first directory that leads to this one in which everybody may exchange it; empty where there is none."""
    for parent in path.absolute().parents:
        if parent.exists() and not _keeps_names(parent.stat().st_mode):
            return str(parent)
    return ""


def create(path: Path) -> int:
    """A new, empty file of mode 0600, opened for reading and writing; what had its name is gone. Raises OSError."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def open_own(path: Path) -> int:
    """A file of one's own, opened for reading and writing.

    Raises:
        OSError: there is none, it is a link, or it is somebody else's.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{path} is somebody else's")
    return descriptor


def _keeps_names(mode: int) -> bool:
    """Whether not everybody may rename what others have in a directory of this mode."""
    return not mode & stat.S_IWOTH or bool(mode & stat.S_ISVTX)


def _name(user: int) -> str:
    try:
        return f"the user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"
