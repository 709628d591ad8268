"""The sign of life of an agent or a coordinator, for the container's health check.

Healthy means that the event loop turns, never that training has begun: Swarm gives a task its DNS name only once it
is healthy, so a check that waited for the rendezvous would wait for ever.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from swarmtrain.wire import names
from swarmtrain.wire.clock import MACHINE, Clock

_MARK = Path(names.ALIVE)
_STALE = 30.0


def beat(clock: Clock = MACHINE) -> None:
    """The loop turns. Does nothing outside of a container, where nobody asks."""
    if Path(names.BUNDLE).exists():
        now = round(clock.monotonic() * 1e9)  # not the time of day, which somebody may set
        with contextlib.suppress(OSError):  # a disk that cannot be written is no reason to die
            _MARK.touch()
            os.utime(_MARK, ns=(now, now))


def main(argv: list[str], clock: Clock = MACHINE) -> int:
    """The health check: 0 while the loop turned within the last half minute."""
    try:
        return 0 if 0 <= clock.monotonic() - _MARK.stat().st_mtime < _STALE else 1
    except OSError:
        return 1
