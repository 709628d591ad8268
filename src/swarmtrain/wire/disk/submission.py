"""Whether a run was submitted whole: its launcher says so when it has started everything, or was killed before.

On this machine the process that submits is written down beside the run, so that its death is seen at once. Elsewhere
there is only the launcher's word, which is waited for. Written by launchers, read by the coordinator.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from swarmtrain.wire.clock import MACHINE, Clock
from swarmtrain.wire.machine.processes import began

MARK = "submitted"  # the file that says so
_SUBMITTER = "submitter.json"  # beside it
_PATIENCE = 60.0  # seconds in which a launcher elsewhere has started everything


def by_this_process() -> dict[str, bytes]:
    """The file that says who submits a run, by its name."""
    me = {"pid": os.getpid(), "began": began(os.getpid()), "boot": MACHINE.boot()}
    return {_SUBMITTER: json.dumps(me).encode()}


def is_known(place: Path) -> bool:
    """Whether it is written down in this directory who submits its run."""
    return (place / _SUBMITTER).exists()


def is_under_way(place: Path) -> bool:
    """Whether the process that submits a run still lives."""
    try:
        who = json.loads((place / _SUBMITTER).read_text())
        return bool(who["began"]) and began(who["pid"]) == who["began"] and MACHINE.boot() == who["boot"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


class SubmissionMark:
    """One run's, as its coordinator sees it.

    Args:
        mark: the path of the file that says that it is whole; empty where nobody says so, as Swarm does the rest.
        clock: of this machine.
    """

    def __init__(self, mark: str = "", clock: Clock = MACHINE) -> None:
        self._mark = Path(mark) if mark else None
        self._clock = clock
        self._since = clock.monotonic()

    def was_cut_off(self) -> bool:
        """Whether whoever was at it is gone, and has not started everything."""
        if self._mark is None:
            return False
        if is_known(self._mark.parent):
            gone = not is_under_way(self._mark.parent)
        else:
            gone = self._clock.monotonic() - self._since > _PATIENCE
        if self._mark.exists():  # looked for last: it may have been made before its maker went
            self._mark = None
            return False
        return gone
