"""The sign of life of an agent or a coordinator, for the container's health check.

Healthy means that the event loop turns, never that training has begun: Swarm gives a task its DNS name only once it
is healthy, so a check that waited for the rendezvous would wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from swarmtrain.wire import names

_MARK = Path(names.ALIVE)
_STALE = 30.0


def beat() -> None:
    """The loop turns. Does nothing outside of a container, where nobody asks."""
    if Path(names.BUNDLE).exists():
        now = time.monotonic_ns()  # not the time of day, which somebody may set
        with contextlib.suppress(OSError):  # a disk that cannot be written is no reason to die
            _MARK.touch()
            os.utime(_MARK, ns=(now, now))


def main(argv: list[str]) -> int:
    """The health check: 0 while the loop turned within the last half minute."""
    try:
        return 0 if 0 <= time.monotonic_ns() - _MARK.stat().st_mtime_ns < _STALE * 1e9 else 1
    except OSError:
        return 1
