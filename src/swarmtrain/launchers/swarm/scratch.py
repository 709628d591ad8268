"""The directory that ``docker stack deploy`` reads a plan from. One that a killed client leaves goes with the next.

It holds the bundle and the user's code, at most for the seconds of a deployment. Its client holds a lock on it, which
the kernel takes back whatever that client dies of, and in whatever container it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "swarmtrain-deploy-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A new directory of mode 0700, which goes at the end."""
    made = Path(tempfile.mkdtemp(prefix="swarmtrain-new-"))
    lock = os.open(made, _DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Under this name it may be swept, so not before it is held.
        made = made.rename(made.with_name(made.name.replace("swarmtrain-new-", _PREFIX)))
        yield made
    finally:
        shutil.rmtree(made)
        os.close(lock)


def sweep() -> None:
    """Remove this user's directories that nobody holds any more."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = os.open(left, _DIRECTORY)  # no link is followed
        except OSError:
            continue
        try:
            status = os.fstat(lock)
            if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass  # its client is at work
        finally:
            os.close(lock)
